"""Studies as jobs on a Ray cluster: the job server, the runtime environment, the submission."""
