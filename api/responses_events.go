package api

// Events of a stream of /v1/responses. The type is also the event's name; sequence
// numbers count from 0.

// EventHead begins every event.
type EventHead struct {
	Type           string `json:"type"`
	SequenceNumber int    `json:"sequence_number"`
}

// Head gives access to the members that every event has.
func (h *EventHead) Head() *EventHead { return h }

// ResponseEvent is any of the events.
type ResponseEvent interface{ Head() *EventHead }

// WholeEvent carries the response so far: response.created, .in_progress, .completed,
// .incomplete and .failed.
type WholeEvent struct {
	EventHead
	Response *Response `json:"response"`
}

// ItemEvent begins or ends an item: response.output_item.added and .done.
type ItemEvent struct {
	EventHead
	OutputIndex int        `json:"output_index"`
	Item        OutputItem `json:"item"`
}

// PartEvent begins or ends a message's text: response.content_part.added and .done.
type PartEvent struct {
	EventHead
	ItemID       string   `json:"item_id"`
	OutputIndex  int      `json:"output_index"`
	ContentIndex int      `json:"content_index"`
	Part         TextPart `json:"part"`
}

// TextDeltaEvent is response.output_text.delta.
type TextDeltaEvent struct {
	EventHead
	ItemID       string         `json:"item_id"`
	OutputIndex  int            `json:"output_index"`
	ContentIndex int            `json:"content_index"`
	Delta        string         `json:"delta"`
	Logprobs     []TokenLogprob `json:"logprobs"`
}

// TextDoneEvent is response.output_text.done.
type TextDoneEvent struct {
	EventHead
	ItemID       string         `json:"item_id"`
	OutputIndex  int            `json:"output_index"`
	ContentIndex int            `json:"content_index"`
	Text         string         `json:"text"`
	Logprobs     []TokenLogprob `json:"logprobs"`
}

// ArgumentsDeltaEvent is response.function_call_arguments.delta.
type ArgumentsDeltaEvent struct {
	EventHead
	ItemID      string `json:"item_id"`
	OutputIndex int    `json:"output_index"`
	Delta       string `json:"delta"`
}

// ArgumentsDoneEvent is response.function_call_arguments.done.
type ArgumentsDoneEvent struct {
	EventHead
	ItemID      string `json:"item_id"`
	OutputIndex int    `json:"output_index"`
	Name        string `json:"name"`
	Arguments   string `json:"arguments"`
}
