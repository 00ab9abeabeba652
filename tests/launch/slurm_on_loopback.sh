#!/usr/bin/env bash
# A Slurm cluster of two nodes on this machine, for the tests: everything is in one folder, nothing outside is changed.
# Needs root, and the programs munged, slurmctld and slurmd.
#
#   slurm_on_loopback.sh start FOLDER    then: export SLURM_CONF=FOLDER/slurm.conf
#   slurm_on_loopback.sh stop FOLDER
set -euo pipefail
verb=$1 folder=$2

end() { # end FILE: ends the process whose number is in the file
  [[ -s $1 ]] && kill "$(cat "$1")" 2>/dev/null || true
}

if [[ $verb == stop ]]; then
  for file in "$folder"/{slurmd.n1,slurmd.n2,slurmctld,munged}.pid; do end "$file"; done
  exit 0
fi

host=$(hostname -s)
mkdir -p "$folder"/{state,n1,n2}
chmod 755 "$folder"
mkdir -p -m 700 "$folder/keys"
[[ -e $folder/keys/key ]] || (umask 077 && head -c 128 /dev/urandom > "$folder/keys/key")
munged --force --key-file="$folder/keys/key" --seed-file="$folder/keys/seed" --socket="$folder/munge.socket" \
  --pid-file="$folder/munged.pid" --log-file="$folder/keys/munged.log"

# cred_expire: a requeued job waits until its old credentials have expired, two minutes by default.
cat > "$folder/slurm.conf" << CONF
ClusterName=tests
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$((16000 + $$ % 1000))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmctldPidFile=$folder/slurmctld.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmdLogFile=$folder/slurmd.%n.log
SlurmdSpoolDir=$folder/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
KillWait=5
SlurmdTimeout=15
OverTimeLimit=0
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((17000 + $$ % 1000)) CPUs=2 RealMemory=2000
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((18000 + $$ % 1000)) CPUs=2 RealMemory=2000
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$folder/slurm.conf
slurmctld -c
for node in n1 n2; do slurmd -N "$node"; done
for _ in $(seq 100); do
  [[ $(sinfo --noheader --format=%T --states=idle --Node 2> /dev/null | wc -l) == 2 ]] && exit 0
  sleep 0.2
done
echo "the nodes did not come up" >&2
exit 1
