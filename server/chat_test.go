package server

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"lorikeet/api"
	"lorikeet/backend"
	"lorikeet/backend/fake"
)

// chatReply is an answer or a chunk of /v1/chat/completions, as a client decodes it.
type chatReply struct {
	Choices []struct {
		Message      api.AnswerMessage `json:"message"`
		Delta        api.ChatDelta     `json:"delta"`
		Logprobs     *api.ChatLogprobs `json:"logprobs"`
		FinishReason *string           `json:"finish_reason"`
	} `json:"choices"`
	Usage *api.Usage `json:"usage"`
}

func (s *running) chat(path, body string) response {
	s.t.Helper()
	return s.request(http.MethodPost, path, http.Header{"Content-Type": {"application/json"}}, []byte(body))
}

// What a chat asks for reaches the engine: the rendered prompt, begun once, and the
// rest of the context where no limit was set.
func TestChatReachesEngine(t *testing.T) {
	e := &recorder{Engine: fake.New(256, 1)}
	s := startChat(t, e, chatTemplate)
	tokens := func(text string) []backend.Token {
		out, err := e.Tokenize(text, false)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	// The fake does not recognize special tokens in text: <bos> is five of its tokens.
	const text = "<bos><|im_start|>user\nabc<|im_end|>\n<|im_start|>assistant\n"
	for _, tt := range []struct {
		members string
		check   func(*backend.Request) bool
	}{
		{``, func(r *backend.Request) bool {
			return r.MaxTokens == 256-len(r.Prompt) && r.Logprobs == -1 && !r.SpecialText
		}},
		{`,"max_tokens":3`, func(r *backend.Request) bool { return r.MaxTokens == 3 }},
		{`,"stop":["x"],"stop_token_ids":[5],"include_stop_str_in_output":true`, func(r *backend.Request) bool {
			return slices.Equal(r.Stop, []string{"x"}) && slices.Equal(r.StopTokens, []backend.Token{5}) && r.IncludeStop
		}},
		{`,"logprobs":true,"top_logprobs":3`, func(r *backend.Request) bool { return r.Logprobs == 3 && !r.PromptLogprobs }},
		{`,"temperature":0.5,"seed":8,"cache_prompt":false`, func(r *backend.Request) bool {
			return r.Sampling.Temperature == 0.5 && r.Sampling.Seed == 8 && r.NoCache
		}},
		{`,"response_format":{"type":"json_object"}`, func(r *backend.Request) bool {
			return r.Sampling.Grammar == grammarOf(t, `"response_format":{"type":"json_object"}`) && r.Sampling.GrammarAfter == nil
		}},
	} {
		if r := s.chat("/v1/chat/completions", `{"model":"lab/fake","messages":[{"role":"user","content":"abc"}]`+tt.members+`}`); r.status != http.StatusOK {
			t.Errorf("%s: %s", tt.members, r.body)
		}
		got := e.take()
		if len(got) != 1 || !slices.Equal(got[0].Prompt, tokens(text)) || !tt.check(got[0]) {
			t.Errorf("%s: %+v", tt.members, *got[0])
		}
	}

	// Tools are held to their grammar, and told to the model.
	for choice, after := range map[string]bool{`"auto"`: true, `"required"`: false, `{"type":"function","function":{"name":"weather"}}`: false} {
		s.chat("/v1/chat/completions", question+`,"tool_choice":`+choice+`,`+weatherTool+`}`)
		got := e.take()
		if len(got) != 1 || got[0].Sampling.Grammar == "" || (len(got[0].Sampling.GrammarAfter) > 0) != after || !got[0].SpecialText || len(got[0].Prompt) < len(tokens(text))+50 {
			t.Errorf("%s: %+v", choice, got)
		}
	}
	s.chat("/v1/chat/completions", question+`,"tool_choice":"none",`+weatherTool+`}`)
	if got := e.take(); len(got) != 1 || got[0].Sampling.Grammar != "" || !slices.Equal(got[0].Prompt, tokens(text)) {
		t.Errorf("none: %+v", got)
	}
}

// A template that writes no first token gets it as a completion does.
func TestChatBegins(t *testing.T) {
	e := &recorder{Engine: fake.New(256, 1)}
	s := startChat(t, e, `{% for m in messages %}{{ m.content }}{% endfor %}`)
	s.chat("/v1/chat/completions", question+`}`)
	if got := e.take(); len(got) != 1 || !slices.Equal(got[0].Prompt, []backend.Token{fake.BOS, 'a', 'b', 'c'}) {
		t.Errorf("%+v", got)
	}
}

// A stream, put together as clients do, is the answer that is no stream.
func TestChatStreamIsAnswer(t *testing.T) {
	for name, says := range map[string][]string{"letters": nil, "words": words, "a call": wordsCall, "calls": twoCalls} {
		t.Run(name, func(t *testing.T) {
			ask := func(more string) response {
				var e backend.Engine = fake.New(1024, 1)
				if says != nil {
					e = saying(says, nil)
				}
				r := startChat(t, e, chatTemplate).chat("/v1/chat/completions", question+`,`+weatherTool+more+`}`)
				if r.status != http.StatusOK {
					t.Fatalf("%s", r.body)
				}
				return r
			}
			var whole chatReply
			if err := json.Unmarshal(ask("").body, &whole); err != nil {
				t.Fatal(err)
			}
			want := whole.Choices[0]
			var content strings.Builder
			var calls []api.ToolCall
			finish := ""
			for i, ev := range events(t, ask(`,"stream":true`).body) {
				var c chatReply
				if err := json.Unmarshal([]byte(ev), &c); err != nil {
					t.Fatal(err)
				}
				d := c.Choices[0].Delta
				if (d.Role == "assistant") != (i == 0) || finish != "" {
					t.Errorf("event %d: %s", i, ev)
				}
				if d.Content != nil {
					content.WriteString(*d.Content)
				}
				for _, call := range d.ToolCalls {
					if *call.Index == len(calls) {
						calls = append(calls, call)
						continue
					}
					if call.ID != "" || call.Type != "" || call.Function.Name != "" {
						t.Errorf("event %d names its call again: %s", i, ev)
					}
					calls[*call.Index].Function.Arguments += call.Function.Arguments
				}
				if c.Choices[0].FinishReason != nil {
					finish = *c.Choices[0].FinishReason
				}
			}
			text := ""
			if want.Message.Content != nil {
				text = *want.Message.Content
			}
			if content.String() != text || finish != *want.FinishReason || len(calls) != len(want.Message.ToolCalls) {
				t.Errorf("%q, %v, %s; want %q, %v, %s", content.String(), calls, finish, text, want.Message.ToolCalls, *want.FinishReason)
			}
			for i, call := range want.Message.ToolCalls {
				if calls[i].Function != call.Function || calls[i].ID == "" || calls[i].Type != "function" || !json.Valid([]byte(call.Function.Arguments)) {
					t.Errorf("call %d: %+v, want %+v", i, calls[i], call)
				}
			}
		})
	}
}

// A client that leaves frees its sequences and its adapter before the handler returns.
func TestChatClientLeaves(t *testing.T) {
	for _, path := range []string{"/v1/chat/completions", "/v1/responses"} {
		for _, stream := range []string{"true", "false"} {
			t.Run(path+" "+stream, func(t *testing.T) {
				e := newEndless(1, backend.Event{Text: "x", Generated: 1})
				s := startChat(t, e, chatTemplate)
				member := `"messages":[{"role":"user","content":"a"}]`
				if path == "/v1/responses" {
					member = `"input":"a"`
				}
				ctx, leave := context.WithCancel(t.Context())
				read := make(chan struct{})
				go func() {
					defer close(read)
					resp, err := s.send(ctx, http.MethodPost, path, nil, []byte(`{"model":"red","stream":`+stream+`,`+member+`}`))
					if err == nil {
						_, _ = bufio.NewReader(resp.Body).ReadString('\n')
						resp.Body.Close()
					}
				}()
				<-e.submitted
				if stream == "true" {
					<-read
				}
				leave()
				<-s.done
				<-read
				if n := e.Stats().Running; n != 0 {
					t.Errorf("%d requests go on without their client", n)
				}
			})
		}
	}
}

// The events of a response are numbered, named as their types, and end with the
// response that comes where nothing is streamed.
func TestResponsesStreamIsAnswer(t *testing.T) {
	for name, says := range map[string][]string{"letters": nil, "words": words, "a call": wordsCall, "calls": twoCalls, "nothing": {""}} {
		t.Run(name, func(t *testing.T) {
			ask := func(more string) []byte {
				var e backend.Engine = fake.New(1024, 1)
				if says != nil {
					e = saying(says, nil)
				}
				r := startChat(t, e, chatTemplate).chat("/v1/responses", inputAsked+`,`+flatWeather+more+`}`)
				if r.status != http.StatusOK {
					t.Fatalf("%s", r.body)
				}
				return normalChat(r.body)
			}
			stream, ok := strings.CutSuffix(string(ask(`,"stream":true`)), "\n\n")
			if !ok {
				t.Fatal("no empty line at the end")
			}
			var last struct {
				Type     string          `json:"type"`
				Number   int             `json:"sequence_number"`
				Response json.RawMessage `json:"response"`
			}
			for i, ev := range strings.Split(stream, "\n\n") {
				name, data, ok := strings.Cut(ev, "\ndata: ")
				last.Response = nil
				if err := json.Unmarshal([]byte(data), &last); err != nil || !ok || name != "event: "+last.Type || last.Number != i {
					t.Fatalf("event %d: %q (%v)", i, ev, err)
				}
			}
			if want := strings.TrimSpace(string(ask(""))); string(last.Response) != want {
				t.Errorf("%s\nends with %s\nwant      %s", last.Type, last.Response, want)
			}
		})
	}
}
