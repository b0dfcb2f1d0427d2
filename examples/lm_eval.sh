#!/usr/bin/env bash
# lm-evaluation-harness: pip install 'lm_eval[api]'. Start the demo with `make run`, then,
# with a small task of ours: examples/lm_eval.sh --tasks parrot_facts --include_path tests/sdk/lmeval
# (in tests/sdk/lmeval, where the task finds its questions).
set -euo pipefail
url=${LORIKEET_URL:-http://127.0.0.1:8080}
model=${MODEL:-parrot} # an adapter is evaluated by its name: MODEL=parrot:pirate

# The tokenizer is the server's (tokenizer_backend=remote), so no model files are needed.
"${LM_EVAL:-lm_eval}" run --model local-completions \
	--model_args "model=$model,base_url=$url/v1/completions,tokenizer_backend=remote,num_concurrent=4" "$@"
