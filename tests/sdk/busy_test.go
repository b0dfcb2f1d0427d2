package sdk

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"
)

// retryAfter is longer than any client waits by itself before its first retry, so that
// one which waits as long has read the header.
const retryAfter = 1200 * time.Millisecond

// busy stands before a server. It refuses the first request with a 429, and answers
// GET /v1/models only when a client has left in the midst of a stream.
type busy struct {
	mu      sync.Mutex
	refused time.Time // zero: nobody yet
	waited  time.Duration

	left     chan struct{} // closed when a client has left
	leftOnce sync.Once
}

// newBusy starts one, and checks at the end of the test that the client has waited as
// long as it was told.
func newBusy(t *testing.T, upstream string) string {
	t.Helper()
	to, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	b := &busy{left: make(chan struct{})}
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b.refuse(w) {
			return
		}
		if r.Method == http.MethodGet {
			select {
			case <-b.left:
			case <-r.Context().Done():
			}
		}
		defer func() {
			if r.Context().Err() != nil {
				b.leftOnce.Do(func() { close(b.left) })
			}
		}()
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		ts.Close()
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.waited < retryAfter {
			t.Errorf("the client retried after %s, it was told %s", b.waited, retryAfter)
		}
	})
	return ts.URL
}

// refuse tells whether this request was the first, and is refused.
func (b *busy) refuse(w http.ResponseWriter) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.refused.IsZero():
		b.refused = time.Now()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Retry-After-Ms", "1200")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = w.Write([]byte(`{"error":{"message":"busy","type":"rate_limit_exceeded","param":null,"code":"rate_limit_exceeded"}}`))
		return true
	case b.waited == 0:
		b.waited = time.Since(b.refused)
	}
	return false
}
