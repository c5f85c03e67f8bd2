"""mtl_search: one backbone and N related tasks -> the best single multi-task model, by search, on a cluster."""
