package server

import (
	"path/filepath"
	"regexp"
	"testing"

	"lorikeet/adapters"
	"lorikeet/backend"
	"lorikeet/backend/fake"
)

// saying is an engine whose first answer is words, each an event of its own; then it
// fails, if there is an error.
func saying(words []string, err error) *scripted {
	e := &scripted{Engine: fake.New(256, 4)}
	for i, w := range words {
		e.events = append(e.events, backend.Event{Text: w, Generated: i + 1})
	}
	if err != nil {
		e.events = append(e.events, backend.Event{Err: err})
	} else {
		e.events[len(words)-1].Finish = backend.FinishStop
	}
	return e
}

// chatTemplate writes conversations as Qwen and Hermes do; roles other than these it
// refuses to begin with.
const chatTemplate = `{{- bos_token }}
{%- if messages[0].role == 'assistant' %}{{ raise_exception('the first message must not be an assistant\'s') }}{% endif %}
{%- if tools %}<|im_start|>system
<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>
For each call return <tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>
{% endif %}
{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% for call in m.tool_calls %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}`

// startChat serves an engine whose base has a chat template.
func startChat(t *testing.T, e backend.Engine, template string) *running {
	t.Helper()
	b := newBase(t, base, e, &adapters.Folder{FS: folder()}, adapters.Options{LoadTimeout: loadTimeout, UnloadTimeout: loadTimeout})
	b.ChatTemplate = template
	return startBases(t, Options{Version: "test"}, b)
}

const (
	question    = `{"model":"lab/fake","temperature":0,"max_tokens":4,"messages":[{"role":"user","content":"abc"}]`
	inputAsked  = `{"model":"lab/fake","temperature":0,"max_output_tokens":4,"input":"abc"`
	weatherTool = `"tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}}]`
	flatWeather = `"tools":[{"type":"function","name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}]`
)

// The answers of models that call tools, in the form of the template's family.
var (
	words     = []string{"Let me ", "think", "."}
	oneCall   = []string{"<tool_call>", "\n{\"name\": \"weather\", ", "\"arguments\": {\"city\"", ": \"Os", "lo\"}}", "\n</tool_call>"}
	twoCalls  = append(append([]string{}, oneCall...), "\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call>")
	wordsCall = append([]string{"I will ", "look.", "\n"}, oneCall...)
)

var chatExchanges = []struct {
	exchange
	says     []string // nil: the fake's letters
	fails    error    // after that
	template string   // "-" is none, "" is chatTemplate
}{
	{exchange: exchange{name: "plain", body: question + `}`}},
	{exchange: exchange{name: "without-v1", path: "/chat/completions", body: question + `}`}},
	{exchange: exchange{name: "stream", body: question + `,"stream":true}`}},
	{exchange: exchange{name: "stream-usage", body: question + `,"stream":true,"stream_options":{"include_usage":true}}`}},
	{exchange: exchange{name: "stream-two-choices", body: question + `,"n":2,"max_tokens":1,"stream":false}`}},
	{exchange: exchange{name: "logprobs", body: question + `,"max_tokens":2,"logprobs":true,"top_logprobs":2}`}},
	{exchange: exchange{name: "stream-logprobs", body: question + `,"max_tokens":2,"logprobs":true,"top_logprobs":1,"stream":true}`}},
	{exchange: exchange{name: "stop", body: question + `,"max_tokens":null,"stop":["e","x"]}`}},
	{exchange: exchange{name: "developer", body: `{"model":"lab/fake","temperature":0,"max_tokens":4,"messages":[{"role":"developer","content":"be brief"},{"role":"user","content":"abc"}]}`}},
	{exchange: exchange{name: "parts", body: `{"model":"lab/fake","temperature":0,"max_tokens":4,"messages":[{"role":"user","content":[{"type":"text","text":"abc"}]}]}`}},
	{exchange: exchange{name: "continue", body: `{"model":"lab/fake","temperature":0,"max_tokens":4,"continue_final_message":true,"messages":[{"role":"user","content":"abc"},{"role":"assistant","content":"de"}]}`}},
	{exchange: exchange{name: "adapter", body: `{"model":"lab/fake:red","temperature":0,"max_tokens":4,"messages":[{"role":"user","content":"abc"}]}`}},
	{exchange: exchange{name: "response-format", body: question + `,"response_format":{"type":"json_object"}}`}, says: []string{"{\"a\":", " 1}"}},

	{exchange: exchange{name: "tools-unused", body: question + `,` + weatherTool + `}`}, says: words},
	{exchange: exchange{name: "tools-auto", body: question + `,` + weatherTool + `}`}, says: wordsCall},
	{exchange: exchange{name: "tools-auto-stream", body: question + `,"stream":true,` + weatherTool + `}`}, says: wordsCall},
	{exchange: exchange{name: "tools-parallel", body: question + `,` + weatherTool + `}`}, says: twoCalls},
	{exchange: exchange{name: "tools-parallel-stream", body: question + `,"stream":true,` + weatherTool + `}`}, says: twoCalls},
	{exchange: exchange{name: "tools-required", body: question + `,"tool_choice":"required",` + weatherTool + `}`}, says: oneCall},
	{exchange: exchange{name: "tools-named", body: question + `,"tool_choice":{"type":"function","function":{"name":"weather"}},` + weatherTool + `}`}, says: oneCall},
	{exchange: exchange{name: "tools-named-stream", body: question + `,"stream":true,"tool_choice":{"type":"function","function":{"name":"weather"}},` + weatherTool + `}`}, says: oneCall},
	{exchange: exchange{name: "tools-history", body: `{"model":"lab/fake","temperature":0,"max_tokens":4,"messages":[{"role":"user","content":"abc"},{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Oslo\"}"}}]},{"role":"tool","tool_call_id":"call_1","content":"rain"}],` + weatherTool + `,"tool_choice":"none"}`}},

	{exchange: exchange{name: "missing-messages", body: `{"model":"lab/fake"}`}},
	{exchange: exchange{name: "unknown-model", body: `{"model":"gpt-4","messages":[{"role":"user","content":"abc"}]}`}},
	{exchange: exchange{name: "image", body: `{"model":"lab/fake","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}]}]}`}},
	{exchange: exchange{name: "template-error", body: `{"model":"lab/fake","messages":[{"role":"assistant","content":"abc"}]}`}},
	{exchange: exchange{name: "template-missing", body: question + `}`}, template: "-"},
	{exchange: exchange{name: "template-invalid", body: question + `}`}, template: "{% if %}"},
	{exchange: exchange{name: "functions", body: question + `,"functions":[]}`}},
	{exchange: exchange{name: "context-length", body: question + `,"max_tokens":250}`}},
	{exchange: exchange{name: "outside-vocabulary", body: question + `,"logit_bias":{"258":1}}`}},
	{exchange: exchange{name: "fails", body: question + `,"stream":true}`}, says: []string{"a"}, fails: backend.ErrDecode},

	{exchange: exchange{name: "responses-plain", path: "/v1/responses", body: inputAsked + `}`}},
	{exchange: exchange{name: "responses-without-v1", path: "/responses", body: `{"model":"lab/fake","temperature":0,"instructions":"be brief","input":"abc","store":true}`}, says: words},
	{exchange: exchange{name: "responses-stream", path: "/v1/responses", body: inputAsked + `,"stream":true}`}, says: words},
	{exchange: exchange{name: "responses-stream-incomplete", path: "/v1/responses", body: inputAsked + `,"stream":true,"max_output_tokens":2}`}},
	{exchange: exchange{name: "responses-logprobs", path: "/v1/responses", body: inputAsked + `,"max_output_tokens":2,"include":["message.output_text.logprobs"],"top_logprobs":1}`}},
	{exchange: exchange{name: "responses-empty", path: "/v1/responses", body: inputAsked + `}`}, says: []string{""}},
	{exchange: exchange{name: "responses-tools", path: "/v1/responses", body: inputAsked + `,` + flatWeather + `}`}, says: wordsCall},
	{exchange: exchange{name: "responses-tools-stream", path: "/v1/responses", body: inputAsked + `,"stream":true,` + flatWeather + `}`}, says: append(append([]string{}, wordsCall...), twoCalls[len(twoCalls)-1])},
	{exchange: exchange{name: "responses-format", path: "/v1/responses", body: inputAsked + `,"text":{"format":{"type":"json_object"}}}`}, says: []string{"{}"}},
	{exchange: exchange{name: "responses-items", path: "/v1/responses", body: `{"model":"lab/fake","temperature":0,"max_output_tokens":4,"input":[{"role":"user","content":[{"type":"input_text","text":"abc"}]},{"type":"function_call","call_id":"call_1","name":"weather","arguments":"{}"},{"type":"function_call_output","call_id":"call_1","output":"rain"}]}`}},
	{exchange: exchange{name: "responses-stateful", path: "/v1/responses", body: inputAsked + `,"previous_response_id":"resp_1"}`}},
	{exchange: exchange{name: "responses-context-length", path: "/v1/responses", body: inputAsked + `,"max_output_tokens":250}`}},
	{exchange: exchange{name: "responses-fails", path: "/v1/responses", body: inputAsked + `}`}, says: []string{"a"}, fails: backend.ErrDecode},
	{exchange: exchange{name: "responses-stream-fails", path: "/v1/responses", body: inputAsked + `,"stream":true}`}, says: []string{"a"}, fails: backend.ErrDecode},
}

var (
	chatIDs   = regexp.MustCompile(`"(chatcmpl-|resp_|msg_|fc_|call_)[0-9A-Za-z]{8,}"`)
	chatTimes = regexp.MustCompile(`("created(?:_at)?": ?)[0-9]{10}\b`)
)

// normalChat is normal for the ids and times of chats and responses.
func normalChat(body []byte) []byte {
	return chatTimes.ReplaceAll(chatIDs.ReplaceAll(body, []byte(`"${1}ID"`)), []byte(`${1}0`))
}

// What chats and responses have on the wire is what the files in testdata/chat hold.
func TestChatTranscripts(t *testing.T) {
	dir := filepath.Join("testdata", "chat")
	seen := map[string]bool{}
	for _, x := range chatExchanges {
		seen[x.name+".txt"] = true
		t.Run(x.name, func(t *testing.T) {
			var e backend.Engine = fake.New(256, 4)
			if x.says != nil {
				e = saying(x.says, x.fails)
			}
			template := chatTemplate
			switch x.template {
			case "":
			case "-":
				template = ""
			default:
				template = x.template
			}
			if x.path == "" {
				x.path = "/v1/chat/completions"
			}
			checkTranscript(t, filepath.Join(dir, x.name+".txt"), normalChat(x.transcript(t, startChat(t, e, template))))
		})
	}
	checkFiles(t, dir, seen)
}
