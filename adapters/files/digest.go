package files

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"lorikeet/adapters/guard"
	"lorikeet/adapters/lora"
)

// chunkSize is a part of the digest's definition.
const chunkSize = 64 << 10

// Digest begins to identify the content of files in their order, whatever their names:
// by the SHA-256, in hex, of a text that holds for each file its length in decimal, a line
// feed, and the SHA-256 of each 64 KiB of it (the last may be shorter). It is computed on
// all cores. wait returns it, and must be called before a file is closed; its errors are
// *lora.Error.
func Digest(contents ...*File) (wait func() (string, error)) {
	var digest string
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		digest, err = compute(contents)
	}()
	return func() (string, error) {
		<-done
		return digest, err
	}
}

func compute(contents []*File) (string, error) {
	type chunk struct {
		of   *File
		data []byte
		sum  [sha256.Size]byte
	}
	var chunks []chunk
	for _, f := range contents {
		for at := 0; at < len(f.Data); at += chunkSize {
			chunks = append(chunks, chunk{of: f, data: f.Data[at:min(at+chunkSize, len(f.Data))]})
		}
	}
	failed, err := guard.Each(len(chunks), func(i int) error {
		chunks[i].sum = sha256.Sum256(chunks[i].data)
		return nil
	})
	if err != nil {
		return "", &lora.Error{File: chunks[failed].of.Name, Reason: err.Error()}
	}
	h := sha256.New()
	for _, f := range contents {
		fmt.Fprintf(h, "%d\n", len(f.Data))
		for len(chunks) > 0 && chunks[0].of == f {
			h.Write(chunks[0].sum[:])
			chunks = chunks[1:]
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
