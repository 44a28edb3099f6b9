#!/bin/sh
# Makes sprout.gguf from nothing: corpus, tokenizer, training, export, exam.
#   ./reproduce.sh [WORK_DIR]      WORK_DIR (default: a new temporary folder) takes all else
# OUT in the environment names the folder of the result (default: this one).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-$(mktemp -d)}
out=${OUT:-$here}
mkdir -p "$work" "$out"
export PYTHONDONTWRITEBYTECODE=1
[ -x "$work/venv/bin/python" ] || python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q -r "$here/requirements.txt"
py="nice -n 5 $work/venv/bin/python"
cd "$here"
$py corpus.py "$work" --conversations 64000 --long 700 --seed 1
$py tokenizer.py "$work/train.jsonl" "$work/tokenizer.json" --vocab 1536
# part one, at a high learning rate; its schedule is that of 2020 steps, of which 900 are run
$py train.py "$work/train.jsonl" "$work/tokenizer.json" "$work/one" --steps 1900 --long-steps 120 \
    --stop 900 --muon-lr 0.02 --adam-lr 0.003 --prompt-weight 0.1 --bound 0.6
# part two, from those weights, at a low rate that ends at zero
$py train.py "$work/train.jsonl" "$work/tokenizer.json" "$work/two" --init "$work/one/weights.npz" \
    --start 900 --steps 820 --long-steps 60 --muon-lr 0.006 --adam-lr 0.002 --prompt-weight 0.03 --bound 0.15
$py export.py "$work/two/weights.npz" "$work/tokenizer.json" "$out" --type q8_0 --context 1024
(cd "$out" && sha256sum -c sprout.gguf.sha256)
$py exam.py "$out/sprout.gguf" --exam "$work/exam.jsonl"
$py exam.py "$out/sprout.gguf" --exam "$work/exam_long.jsonl"
$py exam.py "$out/sprout.gguf" --smoke smoke.json
