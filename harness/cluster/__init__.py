"""Work on other machines: a narrow seam (`submit`, `completed`, `cancel`), and the cluster engines behind it.

The process that submits stays the controller: it alone writes results.
"""
