#!/usr/bin/env bash
# The API with nothing but curl. Start the demo with `make run`, then: examples/curl.sh
set -euo pipefail
url=${LORIKEET_URL:-http://127.0.0.1:8080}

post() { curl --fail-with-body --silent --show-error --no-buffer "$url$1" -H 'Content-Type: application/json' -d "$2"; echo; }

echo "# which models there are"
curl --fail-with-body --silent --show-error "$url/v1/models"

echo "# a completion by an adapter"
post /v1/completions '{"model": "parrot:pirate", "prompt": "What colour is the sky?", "max_tokens": 32, "temperature": 0}'

echo "# a conversation, streamed"
post /v1/chat/completions '{"model": "parrot", "messages": [{"role": "user", "content": "What colour is the sky?"}], "max_completion_tokens": 32, "stream": true}'

echo "# two adapters at once, at scales"
post /v1/completions '{"model": "parrot", "prompt": "What colour is the sky?", "lora": [{"name": "pirate", "scale": 0.5}, {"name": "shout", "scale": 0.5}], "max_tokens": 32}'

echo "# an answer that follows a JSON schema"
post /v1/completions '{"model": "parrot", "prompt": "What colour is the sky?", "max_tokens": 32,
  "json_schema": {"type": "object", "properties": {"certain": {"type": "boolean"}}, "required": ["certain"], "additionalProperties": false}}'

echo "# an embedding"
post /v1/embeddings '{"model": "parrot", "input": "the sky", "dimensions": 8}'
