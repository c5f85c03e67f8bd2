"""Results: trials, the outcome of a study, its statistics and the selection of the champion."""
