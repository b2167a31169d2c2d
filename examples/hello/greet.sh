#!/bin/sh
# Greets every name on its standard input.
set -e
greeting=$(cat greeting.txt)
while read -r name; do
    echo "$greeting, $name!"
done
echo "greeted everybody with \"$greeting\"" >&2
