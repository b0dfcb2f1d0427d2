package server

import (
	"cmp"
	"errors"
	"log/slog"
	"strings"
	"sync"

	"lorikeet/adapters"
	"lorikeet/api"
	"lorikeet/backend"
	"lorikeet/chat"
)

// templates are the chat templates of the bases, each compiled when it is first used.
type templates map[*adapters.Base]func() (*chat.Template, error)

func newTemplates(bases []*adapters.Base) templates {
	t := templates{}
	for _, b := range bases {
		t[b] = sync.OnceValues(func() (*chat.Template, error) { return compileTemplate(b) })
	}
	return t
}

// templateSource is the one that was configured for a base, or its own.
func templateSource(b *adapters.Base) string {
	return cmp.Or(b.ChatTemplate, b.Engine.Info().ChatTemplate)
}

func compileTemplate(b *adapters.Base) (*chat.Template, error) {
	info := b.Engine.Info()
	source := templateSource(b)
	if source == "" {
		return nil, api.Invalid("model", "chat_template_missing", "The base %q has no chat template: set models[].chat_template in the server's configuration, or use /v1/completions.", b.Name)
	}
	name := func(t backend.Token) string { return string(b.Engine.Piece(t, true)) } // NoToken has none
	t, err := chat.Compile(source, chat.Options{BOS: name(info.BOS), EOS: name(info.EOS)})
	if err != nil {
		slog.Error("a chat template can't be used; set models[].chat_template to a file that holds another", "model", b.Name, "err", err)
		return nil, api.Invalid("model", "chat_template_invalid", "The chat template of the base %q can't be used.", b.Name)
	}
	return t, nil
}

// conversation is a request as templates take it.
func conversation(req *api.ChatRequest) chat.Conversation {
	c := chat.Conversation{Tools: chatTools(req), Continue: req.Continue, Extra: req.TemplateArgs}
	for _, m := range req.Messages {
		out := chat.Message{Role: m.Role, Content: m.Content, Name: m.Name, ToolCallID: m.ToolCallID}
		for _, call := range m.ToolCalls {
			out.ToolCalls = append(out.ToolCalls, chat.ToolCall(call))
		}
		c.Messages = append(c.Messages, out)
	}
	return c
}

func chatTools(req *api.ChatRequest) []chat.Tool {
	var out []chat.Tool
	for _, t := range req.Tools {
		out = append(out, chat.Tool(t))
	}
	return out
}

func chatChoice(c api.ToolChoice) chat.Choice {
	modes := map[api.ToolMode]chat.Mode{api.ToolsNone: chat.None, api.ToolsAuto: chat.Auto, api.ToolsRequired: chat.Required, api.ToolsNamed: chat.Named}
	return chat.Choice{Mode: modes[c.Mode], Name: c.Name, Parallel: c.Parallel}
}

// conversationTokens tokenizes a rendered conversation. A template that writes the
// token which begins a text leaves no room for another.
func conversationTokens(e backend.Engine, text string) ([]backend.Token, error) {
	bos := string(e.Piece(e.Info().BOS, true))
	return promptTokens(e, api.Prompt{Text: text}, bos == "" || !strings.HasPrefix(text, bos), "messages")
}

// chatError is apiError for requests whose prompt is in the member input.
func chatError(err error, model, input string) *api.Error {
	var (
		render *chat.TemplateError
		tool   *chat.ToolError
	)
	switch {
	case errors.As(err, &render):
		return api.Invalid(input, "chat_template_error", "The messages do not fit the model's chat template: %s", render.Error())
	case errors.As(err, &tool):
		return api.Invalid("tools", "invalid_tool", "Invalid 'tools': %s", tool.Error())
	}
	return blamed(apiError(err, model), "prompt", input)
}
