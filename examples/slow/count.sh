#!/bin/sh
# Says something twice a second for three seconds, so that there is a log to follow while it runs.
for step in 1 2 3 4 5 6; do
    echo "step $step of 6"
    sleep 0.5
done
