"""One thread a process, said before torch is imported: several that share two cores mostly wait for each other.

It also keeps the tests on several ranks from hanging: OpenMP's threads do not live on in a forked process, which waits
for them forever.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"
