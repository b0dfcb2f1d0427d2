package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"lorikeet/adapters"
	"lorikeet/backend/engine"
	"lorikeet/server"
)

var streaming = Scenario{
	Name:  "streaming",
	Shows: "50 tokens over HTTP as a stream, against one response; 1 client and 8 clients",
	Run: func(ctx context.Context, e *Env) ([]Figure, error) {
		rig, err := e.Open(ctx, engine.Params{}, nil)
		if err != nil {
			return nil, err
		}
		defer rig.Close()
		c, err := serve(ctx, rig)
		if err != nil {
			return nil, err
		}
		defer c.stop()
		var figures []Figure
		for _, clients := range []int{1, 8} {
			f, err := e.compareStreams(ctx, c, clients, e.pick(9, 3))
			if err != nil {
				return nil, err
			}
			figures = append(figures, f.atLeast(0.99))
		}
		return figures, nil
	},
}

const (
	served       = "bench" // what the base is called
	streamTokens = 50
)

// compareStreams measures clients that ask at once and wait for each other.
func (e *Env) compareStreams(ctx context.Context, c *httpClient, clients, rounds int) (Figure, error) {
	random := e.random(fmt.Sprint("streaming ", clients))
	streamed, whole := &series{name: "streamed", unit: "tok/s"}, &series{name: "in one", unit: "tok/s"}
	run := func(into *series, stream bool) func(int) error {
		return func(int) error {
			bodies := make([][]byte, clients)
			for i := range bodies {
				body := map[string]any{
					"model": served, "prompt": e.prompt(random, 16), "max_tokens": streamTokens, "temperature": 0, "cache_prompt": false, "stream": stream,
				}
				if stream {
					body["stream_options"] = map[string]any{"include_usage": true}
				}
				var err error
				if bodies[i], err = json.Marshal(body); err != nil {
					return err
				}
			}
			errs := make([]error, clients)
			start := time.Now()
			var asking sync.WaitGroup
			for i := range bodies {
				asking.Go(func() { errs[i] = c.complete(ctx, bodies[i]) })
			}
			asking.Wait()
			into.add(float64(clients*streamTokens) / time.Since(start).Seconds())
			return errors.Join(errs...)
		}
	}
	if err := run(&series{}, true)(0); err != nil { // opens the connections
		return Figure{}, err
	}
	if err := inTurns(rounds, run(streamed, true), run(whole, false)); err != nil {
		return Figure{}, err
	}
	name := "streamed ÷ in one, 1 client"
	if clients > 1 {
		name = fmt.Sprintf("streamed ÷ in one, %d clients", clients)
	}
	return ratio(name, streamed, whole), nil
}

// httpClient talks to a server of its own in this process.
type httpClient struct {
	url    string
	client *http.Client
	server *http.Server
}

func serve(ctx context.Context, rig *Rig) (*httpClient, error) {
	registry, err := adapters.NewRegistry(&adapters.Base{Name: served, Engine: rig.Engine, Adapters: rig.Manager})
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &httpClient{
		url:    "http://" + listener.Addr().String() + "/v1/completions",
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
		server: &http.Server{Handler: server.New(server.Options{Registry: registry, Version: "bench"}), ReadHeaderTimeout: 10 * time.Second},
	}
	go func() { _ = c.server.Serve(listener) }() // ends with stop
	return c, nil
}

func (c *httpClient) stop() {
	c.client.CloseIdleConnections()
	_ = c.server.Close() // nobody is answered any more
}

// complete sends a request and reads the whole answer, doing as little with it as a
// client can: the client has the same CPUs as the server here.
func (c *httpClient) complete(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !bytes.Contains(answer, fmt.Appendf(nil, `"completion_tokens":%d`, streamTokens)) {
		return fmt.Errorf("status %d: %.500s", resp.StatusCode, answer)
	}
	return nil
}
