package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// said is a chat request with further members.
func said(members string) string {
	return `{"model":"m","messages":[{"role":"user","content":"q"}]` + comma(members) + `}`
}

// asked is a request for a response with further members.
func asked(members string) string { return `{"model":"m","input":"q"` + comma(members) + `}` }

func comma(members string) string {
	if members == "" {
		return ""
	}
	return "," + members
}

func chatDefaults() ChatRequest {
	return ChatRequest{
		Model: "m", Messages: []ChatMessage{{Role: "user", Content: "q"}}, N: 1, Logprobs: -1, ToolChoice: ToolChoice{Mode: ToolsNone, Parallel: true},
		Sampling: Sampling{Temperature: 1, TopP: 1, TypicalP: 1, RepetitionPenalty: 1},
	}
}

const (
	weather = `{"type":"function","function":{"name":"weather","description":"d","strict":true,"parameters":{"type":"object"}}}`
	clock   = `{"type":"function","function":{"name":"clock"}}`
)

func TestChatAccepted(t *testing.T) {
	tools := []Tool{{Name: "weather", Description: "d", Parameters: json.RawMessage(`{"type":"object"}`), Strict: true}, {Name: "clock"}}
	tests := []struct {
		name, members string
		change        func(*ChatRequest)
	}{
		{"defaults", ``, func(*ChatRequest) {}},
		{"fields that change nothing", `"user":"u","metadata":{"a":"b"},"store":true,"service_tier":"auto","safety_identifier":"s","prompt_cache_key":"k",
			"verbosity":"low","modalities":["text"],"max_tokens":null,"tools":null,"response_format":{"type":"text"},"whatever":{}`, func(*ChatRequest) {}},
		{"max_tokens", `"max_tokens":5`, func(r *ChatRequest) { r.MaxTokens = 5 }},
		{"max_completion_tokens", `"max_completion_tokens":5`, func(r *ChatRequest) { r.MaxTokens = 5 }},
		{"both, the same", `"max_completion_tokens":5,"max_tokens":5`, func(r *ChatRequest) { r.MaxTokens = 5 }},
		{"logprobs", `"logprobs":true`, func(r *ChatRequest) { r.Logprobs = 0 }},
		{"top_logprobs", `"logprobs":true,"top_logprobs":20`, func(r *ChatRequest) { r.Logprobs = 20 }},
		{"top_logprobs 0 without logprobs", `"logprobs":false,"top_logprobs":0`, func(*ChatRequest) {}},
		{"stream", `"stream":true,"stream_options":{"include_usage":true},"n":2,"stop":"x"`, func(r *ChatRequest) {
			r.Stream, r.IncludeUsage, r.N, r.Stop = true, true, 2, []string{"x"}
		}},
		{"min_tokens without a limit", `"min_tokens":100`, func(r *ChatRequest) { r.MinTokens = 100 }},
		{"template variables", `"chat_template_kwargs":{"enable_thinking":false,"n":2,"s":"x"},"reasoning_effort":"low"`, func(r *ChatRequest) {
			r.TemplateArgs = map[string]any{"enable_thinking": false, "n": 2, "s": "x", "reasoning_effort": "low"}
		}},
		{"the variable beats the field", `"chat_template_kwargs":{"reasoning_effort":"high"},"reasoning_effort":"low"`, func(r *ChatRequest) {
			r.TemplateArgs = map[string]any{"reasoning_effort": "high"}
		}},
		{"tools", `"tools":[` + weather + `,` + clock + `]`, func(r *ChatRequest) { r.Tools, r.ToolChoice.Mode = tools, ToolsAuto }},
		{"tools required, one at a time", `"tools":[` + weather + `,` + clock + `],"tool_choice":"required","parallel_tool_calls":false`, func(r *ChatRequest) {
			r.Tools, r.ToolChoice = tools, ToolChoice{Mode: ToolsRequired}
		}},
		{"a tool named", `"tools":[` + weather + `,` + clock + `],"tool_choice":{"type":"function","function":{"name":"clock"}}`, func(r *ChatRequest) {
			r.Tools, r.ToolChoice = tools, ToolChoice{Mode: ToolsNamed, Name: "clock", Parallel: true}
		}},
		{"tools that must not be called", `"tools":[` + weather + `],"tool_choice":"none"`, func(*ChatRequest) {}},
		{"auto without tools", `"tools":[],"tool_choice":"auto"`, func(*ChatRequest) {}},
		{"every role", `"messages":[{"role":"developer","content":"d"},{"role":"system","content":"s","name":"n"},{"role":"user","content":""},
			{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"clock","arguments":""}}]},
			{"role":"tool","tool_call_id":"c","content":"noon"},{"role":"assistant","content":null,"refusal":"no"}]`, func(r *ChatRequest) {
			r.Messages = []ChatMessage{
				{Role: "system", Content: "d"}, {Role: "system", Content: "s", Name: "n"}, {Role: "user"},
				{Role: "assistant", ToolCalls: []MessageCall{{"c", "clock", "{}"}}}, {Role: "tool", ToolCallID: "c", Content: "noon"}, {Role: "assistant", Content: "no"},
			}
		}},
		{"parts", `"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"né"}]}]`, func(r *ChatRequest) {
			r.Messages = []ChatMessage{{Role: "user", Content: "a\nné"}}
		}},
		{"an answer goes on", `"messages":[{"role":"assistant","content":"a"}],"continue_final_message":true,"add_generation_prompt":false`, func(r *ChatRequest) {
			r.Messages, r.Continue = []ChatMessage{{Role: "assistant", Content: "a"}}, true
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := said(tt.members)
			if strings.Contains(tt.members, `"messages"`) {
				body = `{"model":"m",` + tt.members + `}`
			}
			got, err := DecodeChat([]byte(body))
			if err != nil {
				t.Fatal(err)
			}
			got.Seed = 0
			want := chatDefaults()
			tt.change(&want)
			if !reflect.DeepEqual(*got, want) {
				t.Errorf("got  %+v\nwant %+v", *got, want)
			}
		})
	}
}

// A constraint of the answer becomes the same grammar as for a completion.
func TestChatConstraint(t *testing.T) {
	const format = `"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"integer"}}}`
	plain, err := DecodeCompletion([]byte(with(format)))
	if err != nil {
		t.Fatal(err)
	}
	chat, err := DecodeChat([]byte(said(format)))
	if err != nil {
		t.Fatal(err)
	}
	response, err := DecodeResponses([]byte(asked(`"text":{"format":{"type":"json_schema","name":"n","schema":{"type":"integer"}}}`)))
	if err != nil {
		t.Fatal(err)
	}
	if plain.Grammar == "" || chat.Grammar != plain.Grammar || response.Grammar != plain.Grammar {
		t.Errorf("%q, %q, %q", plain.Grammar, chat.Grammar, response.Grammar)
	}
	with, err := DecodeChat([]byte(said(format + `,"tools":[` + weather + `],"tool_choice":"none"`)))
	if err != nil || with.Grammar != plain.Grammar {
		t.Errorf("with tools that must not be called: %v", err)
	}
}

// chatRefused checks a refusal as a client sees it.
func chatRefused[T any](t *testing.T, decode func([]byte) (*T, *Error), body, param, code, says string) {
	t.Helper()
	r, err := decode([]byte(body))
	switch {
	case err == nil:
		t.Fatalf("accepted: %+v", r)
	case r != nil:
		t.Errorf("a request beside the error: %+v", r)
	}
	if err.Status != http.StatusBadRequest || err.Type != TypeInvalidRequest || err.Param != param || err.Code != code || !strings.Contains(err.Message, says) || len(err.Message) > 400 {
		t.Errorf("status %d, %s, param %q, code %q, %q; want param %q, code %q, %q", err.Status, err.Type, err.Param, err.Code, err.Message, param, code, says)
	}
}

func TestChatRefused(t *testing.T) {
	messages := func(m string) string { return `{"model":"m","messages":` + m + `}` }
	user := func(content string) string { return messages(`[{"role":"user","content":` + content + `}]`) }
	calls := func(c string) string { return messages(`[{"role":"assistant","tool_calls":` + c + `}]`) }
	tool := func(members string) string {
		return said(`"tools":[{"type":"function","function":{` + members + `}}]`)
	}
	for _, tt := range []struct{ body, param, code, says string }{
		{`{"messages":[{"role":"user","content":"q"}]}`, "model", missing, ""},
		{`{"model":"m"}`, "messages", missing, ""},
		{messages(`[]`), "messages", emptyArray, ""},
		{messages(`"q"`), "messages", badType, ""},
		{messages(`["q"]`), "messages", badType, "messages[0]"},
		{messages(`[{"content":"q"}]`), "messages", missing, "messages[0].role"},
		{messages(`[{"role":"narrator","content":"q"}]`), "messages", badValue, "narrator"},
		{messages(`[{"role":"function","name":"f","content":"q"}]`), "messages", badValue, "use 'tool'"},
		{messages(`[{"role":"user"}]`), "messages", missing, "messages[0].content"},
		{messages(`[{"role":"assistant","content":null}]`), "messages", missing, "messages[0].content"},
		{messages(`[{"role":"tool","content":"x"}]`), "messages", missing, "messages[0].tool_call_id"},
		{messages(`[{"role":"user","content":"q","name":5}]`), "messages", badType, "messages[0].name"},
		{messages(`[{"role":"assistant","content":"x","function_call":{}}]`), "messages", unserved, "function_call"},
		{messages(`[` + strings.Repeat(`{},`, MaxMessages) + `{}]`), "messages", tooMany, "4096"},
		{user(`5`), "messages", badType, "messages[0].content"},
		{user(`"\ud83e"`), "messages", badType, "UTF-8"},
		{user(`[]`), "messages", emptyArray, ""},
		{user(`["q"]`), "messages", badType, "messages[0].content[0]"},
		{user(`[{"text":"q"}]`), "messages", missing, "messages[0].content[0].type"},
		{user(`[{"type":"text"}]`), "messages", missing, "messages[0].content[0].text"},
		{user(`[{"type":"text","text":5}]`), "messages", badType, "messages[0].content[0].text"},
		{user(`[{"type":"text","text":"q"},{"type":"image_url","image_url":{"url":"x"}}]`), "messages", badValue, "image_url"},
		{user(`[{"type":"input_audio","input_audio":{}}]`), "messages", badValue, "input_audio"},
		{calls(`{}`), "messages", badType, "messages[0].tool_calls"},
		{calls(`[{"type":"function","function":{"name":"f","arguments":"{}"}}]`), "messages", missing, "tool_calls[0].id"},
		{calls(`[{"id":"c","type":"custom","function":{"name":"f","arguments":"{}"}}]`), "messages", badValue, "custom"},
		{calls(`[{"id":"c"}]`), "messages", missing, "tool_calls[0].function"},
		{calls(`[{"id":"c","function":{"arguments":"{}"}}]`), "messages", missing, "function.name"},
		{calls(`[{"id":"c","function":{"name":"f"}}]`), "messages", missing, "function.arguments"},
		{calls(`[{"id":"c","function":{"name":"f","arguments":{}}}]`), "messages", badType, "function.arguments"},
		{calls(`[{"id":"c","function":{"name":"f","arguments":"[1]"}}]`), "messages", badValue, "JSON of an object"},
		{calls(`[{"id":"c","function":{"name":"f","arguments":"{"}}]`), "messages", badValue, "JSON of an object"},

		{said(`"max_tokens":5,"max_completion_tokens":6`), "max_tokens", badValue, ""},
		{said(`"max_tokens":0`), "max_tokens", below, ""},
		{said(`"max_completion_tokens":"5"`), "max_completion_tokens", badType, ""},
		{said(`"min_tokens":5,"max_tokens":4`), "min_tokens", above, ""},
		{said(`"n":129`), "n", above, ""},
		{said(`"temperature":3`), "temperature", tooMuch, ""},
		{said(`"logprobs":5`), "logprobs", badType, ""},
		{said(`"logprobs":true,"top_logprobs":21`), "top_logprobs", above, ""},
		{said(`"top_logprobs":2`), "top_logprobs", "", "logprobs"},
		{said(`"stream_options":{"include_usage":true}`), "stream_options", "", ""},
		{said(`"user":5`), "user", badType, ""},
		{said(`"metadata":"x"`), "metadata", badType, ""},
		{said(`"store":"x"`), "store", badType, ""},

		{said(`"tools":{}`), "tools", badType, ""},
		{said(`"tools":["f"]`), "tools", badType, "tools[0]"},
		{said(`"tools":[{"function":{"name":"f"}}]`), "tools", missing, "tools[0].type"},
		{said(`"tools":[{"type":"custom","custom":{"name":"f"}}]`), "tools", badValue, "custom"},
		{said(`"tools":[{"type":"function"}]`), "tools", missing, "tools[0].function"},
		{tool(``), "tools", missing, "tools[0].function.name"},
		{tool(`"name":""`), "tools", badValue, ""},
		{tool(`"name":"a b"`), "tools", badValue, ""},
		{tool(`"name":"` + strings.Repeat("a", 65) + `"`), "tools", badValue, ""},
		{tool(`"name":"f","description":5`), "tools", badType, ""},
		{tool(`"name":"f","parameters":[]`), "tools", badType, "parameters"},
		{tool(`"name":"f","parameters":{"x":"\ud83e"}`), "tools", badType, "UTF-8"},
		{said(`"tools":[` + clock + `,` + clock + `]`), "tools", badValue, "another tool"},
		{said(`"tools":[` + strings.Repeat(clock+",", MaxTools) + clock + `]`), "tools", tooMany, "128"},
		{said(`"tool_choice":"required"`), "tool_choice", badValue, "tools"},
		{said(`"tool_choice":"some"`), "tool_choice", badValue, "some"},
		{said(`"tool_choice":5`), "tool_choice", badType, ""},
		{said(`"tools":[` + clock + `],"tool_choice":{"type":"allowed_tools"}`), "tool_choice", badValue, "allowed_tools"},
		{said(`"tools":[` + clock + `],"tool_choice":{"type":"function"}`), "tool_choice", missing, "tool_choice.function"},
		{said(`"tools":[` + clock + `],"tool_choice":{"type":"function","function":{"name":"weather"}}`), "tool_choice", badValue, "weather"},
		{said(`"parallel_tool_calls":1`), "parallel_tool_calls", badType, ""},
		{said(`"tools":[` + clock + `],"response_format":{"type":"json_object"}`), "tools", badValue, "tool_choice"},
		{said(`"functions":[]`), "functions", unserved, "'tools'"},
		{said(`"function_call":"auto"`), "function_call", unserved, "'tool_choice'"},
		{said(`"response_format":{"type":"xml"}`), "response_format", badValue, "xml"},

		{said(`"chat_template_kwargs":{"a":{}}`), "chat_template_kwargs", badType, ""},
		{said(`"chat_template_kwargs":{"a":[]}`), "chat_template_kwargs", badType, ""},
		{said(`"chat_template_kwargs":{"a":1` + strings.Repeat(`,"a":1`, MaxTemplateArgs) + `}`), "chat_template_kwargs", "object_above_max_length", "64"},
		{said(`"continue_final_message":true`), "continue_final_message", badValue, "assistant"},
		{said(`"continue_final_message":true,"add_generation_prompt":true`), "continue_final_message", badValue, ""},
		{said(`"add_generation_prompt":false`), "add_generation_prompt", unserved, ""},
	} {
		t.Run(name(tt.body), func(t *testing.T) { chatRefused(t, DecodeChat, tt.body, tt.param, tt.code, tt.says) })
	}
}

// A field that would change the answer is refused by name, never passed over.
func TestChatUnsupported(t *testing.T) {
	for field := range chatUnsupported {
		t.Run(field, func(t *testing.T) {
			chatRefused(t, DecodeChat, said(`"`+field+`":["x"]`), field, unserved, "'"+field+"'")
		})
	}
	for field := range responsesUnsupported {
		t.Run(field, func(t *testing.T) {
			chatRefused(t, DecodeResponses, asked(`"`+field+`":["x"]`), field, unserved, "'"+field+"'")
		})
	}
}

// Whatever is sent, the answer is a 400 or a request that can be served.
func FuzzDecodeChat(f *testing.F) {
	f.Add([]byte(said(`"tools":[` + weather + `],"tool_choice":"required","logprobs":true,"top_logprobs":3,"stream":true`)))
	f.Add([]byte(said(`"chat_template_kwargs":{"a":1},"response_format":{"type":"json_object"},"max_tokens":3`)))
	f.Add([]byte(`{"model":"m","messages":[{"role":"assistant","content":[{"type":"text","text":"a"}],"tool_calls":[{"id":"c","function":{"name":"f","arguments":"{}"}}]}]}`))
	f.Add([]byte(asked(`"text":{"format":{"type":"json_object"}},"include":["message.output_text.logprobs"]`)))
	f.Add([]byte(`{"model":"m","input":[{"role":"user","content":"a"},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"x"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		refusal := func(err *Error) {
			if err.Status != http.StatusBadRequest || err.Type != TypeInvalidRequest || err.Message == "" || len(err.Message) > 400 {
				t.Fatalf("%+v", err)
			}
		}
		valid := func(r *ChatRequest) {
			if r.Model == "" || len(r.Messages) == 0 || r.N < 1 || r.N > MaxChoices || r.Logprobs < -1 || r.Logprobs > MaxLogprobs || (len(r.Tools) == 0) != (r.ToolChoice.Mode == ToolsNone) {
				t.Fatalf("%+v", r)
			}
			for _, m := range r.Messages {
				if m.Role == "" || m.Role == "tool" && m.ToolCallID == "" {
					t.Fatalf("%+v", m)
				}
			}
		}
		if r, err := DecodeChat(body); err != nil {
			refusal(err)
		} else {
			valid(r)
		}
		r, err := DecodeResponses(body)
		if err != nil {
			refusal(err)
			return
		}
		valid(&r.ChatRequest)
		if _, err := json.Marshal(r.Settings); err != nil {
			t.Fatal(err)
		}
	})
}
