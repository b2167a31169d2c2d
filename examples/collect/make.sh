#!/bin/sh
# Writes tables in nested folders, a report, and a scratch file that nobody asked for.
set -e
for year in 2024 2025; do
    mkdir -p "out/$year"
    for month in 1 2 3; do
        printf 'month,value\n%s,%s\n' "$month" $((year * month)) >"out/$year/$month.csv"
    done
done
echo scratch >out/scratch.tmp
echo "6 tables" >report.txt
