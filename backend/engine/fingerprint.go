package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
)

// fingerprint identifies a base by its size, its first bytes, which hold the header,
// and samples of its weights: to read all of them would take long.
func fingerprint(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", errors.Unwrap(err) // without the path: New names it
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	if st.IsDir() {
		return "", fmt.Errorf("is a folder, not a GGUF file")
	}
	h := sha256.New()
	_ = binary.Write(h, binary.LittleEndian, st.Size())
	if _, err := io.CopyN(h, f, 8<<20); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	const samples, size = 256, 16 << 10
	buf := make([]byte, size)
	for i := range int64(samples) {
		n, err := f.ReadAt(buf, st.Size()*i/samples)
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		h.Write(buf[:n])
	}
	return hex.EncodeToString(h.Sum(nil)[:6]), nil
}
