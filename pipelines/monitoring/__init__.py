"""What somebody on call sees of a run from outside: its metrics, and whether a board of them has answers.

names       every metric, with its labels
publishing  a run's counts as metrics of Ray's
board       the queries of a Grafana board and of a file of alerts
asking      a Prometheus, asked
answers     which queries it answers, as a table
"""
