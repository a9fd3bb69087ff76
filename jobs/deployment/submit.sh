#!/bin/sh
# Create the RayJob of a manifest, unless the one of last time still works.   submit.sh NAME MANIFEST
# The name is always the same: so there is never a second, and finished ones do not pile up.
set -eu

state=$(kubectl get rayjob "$1" --ignore-not-found -o 'jsonpath=found:{.status.jobDeploymentStatus}')
case "$state" in
"") ;;
found:Complete | found:Failed | found:ValidationFailed)
    kubectl delete rayjob "$1" --wait=false # waiting would need the right to list and watch
    while [ -n "$(kubectl get rayjob "$1" --ignore-not-found -o name)" ]; do sleep 2; done
    ;;
*)
    echo "$1 is ${state#found:}: left alone; what it leaves undone, the next run does"
    exit 0
    ;;
esac
kubectl create -f "$2"
