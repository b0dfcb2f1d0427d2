package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// file puts the length in front of a header, and data behind it.
func file(header string, data int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	b = append(b, header...)
	for i := range data {
		b = append(b, byte(i))
	}
	return b
}

// The second entry's data come first, and an empty tensor lies between.
const valid = `{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[1,2],"data_offsets":[6,14]},
"b":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]},"c":{"dtype":"U8","shape":[0,7],"data_offsets":[6,6]},
"d":{"dtype":"I64","shape":[],"data_offsets":[14,22]}}   `

func TestParse(t *testing.T) {
	f := file(valid, 22)
	got, err := Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	data := f[len(f)-22:]
	want := []Tensor{
		{"b", "BF16", []int{3}, data[:6]},
		{"c", "U8", []int{0, 7}, data[6:6]},
		{"a", "F32", []int{1, 2}, data[6:14]},
		{"d", "I64", []int{}, data[14:]},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, none := range []string{"{}", `{"__metadata__":null}`} {
		if got, err := Parse(file(none, 0)); err != nil || len(got) != 0 {
			t.Errorf("%s: %v, %v", none, got, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	entry := func(name, dtype, shape, offsets string) string {
		return fmt.Sprintf(`%q:{"dtype":%q,"shape":%s,"data_offsets":%s}`, name, dtype, shape, offsets)
	}
	one := func(dtype, shape, offsets string) string { return "{" + entry("x", dtype, shape, offsets) + "}" }
	two := func(first, second string) string {
		return "{" + entry("x", "U8", "[4]", first) + "," + entry("y", "U8", "[4]", second) + "}"
	}
	tests := []struct {
		name   string
		header string
		data   int
		want   string
	}{
		{"no header", "", 0, "not a JSON object"},
		{"not JSON", "hello", 0, "not a JSON object"},
		{"an array", "[]", 0, "not a JSON object"},
		{"a string", `"x"`, 0, "not a JSON object"},
		{"null", "null", 0, "not a JSON object"},
		{"object not closed", `{"x":{}`, 0, "header"},
		{"no value", `{"x"}`, 0, "header"},
		{"entry is a number", `{"x":1}`, 0, `"x"`},
		{"entry is null", `{"x":null}`, 0, `tensor "x": { was expected, not "null}"`},
		{"entry is empty", `{"x":{}}`, 0, `tensor "x": dtype, shape or data_offsets is missing`},
		{"no shape", `{"x":{"dtype":"U8","data_offsets":[0,0]}}`, 0, `tensor "x": dtype, shape or data_offsets is missing`},
		{"unknown member", `{"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"strides":[1]}}`, 0, `tensor "x": "strides" is unknown`},
		{"member in capitals", `{"x":{"DTYPE":"U8","shape":[0],"data_offsets":[0,0]}}`, 0, `tensor "x": "DTYPE" is unknown`},
		{"shape twice", `{"x":{"dtype":"U8","shape":[0],"shape":[1],"data_offsets":[0,1]}}`, 1, `tensor "x": "shape" is unknown or occurs twice`},
		{"one offset", one("U8", "[0]", "[0]"), 0, "data_offsets: less than two"},
		{"three offsets", one("U8", "[0]", "[0,0,0]"), 0, "data_offsets: more than two"},
		{"offset in a text", one("U8", "[0]", `["0",0]`), 0, "data_offsets: a whole number was expected"},
		{"leading zero", one("U8", "[01]", "[0,1]"), 1, "shape: a whole number was expected"},
		{"exponent", one("U8", "[1e2]", "[0,100]"), 100, `, or ] was expected, not "e2]`},
		{"comma at the end", one("U8", "[1,]", "[0,1]"), 1, "a whole number was expected"},
		{"no comma", `{"x":{"dtype":"U8" "shape":[]}}`, 0, ", or } was expected"},
		{"the same key in another spelling", "{" + entry("x", "U8", "[0]", "[0,0]") + `,"\u0078":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, 0, `"x" occurs twice`},
		{"name is not UTF-8", "{\"\xff\":{}}", 0, "not UTF-8"},
		{"name with a control character", "{\"\x00\":{}}", 0, "holds the character 0x0"},
		{"name with a wrong escape", `{"\x":{}}`, 0, "invalid character 'x'"},
		{"deep", `{"x":` + strings.Repeat("[", 1<<20), 0, `tensor "x": { was expected`},
		{"deep metadata", `{"__metadata__":` + strings.Repeat(`{"a":`, 1<<20), 0, `__metadata__: a text was expected`},
		{"metadata is not strings", `{"__metadata__":{"a":1}}`, 0, "__metadata__"},
		{"data after the object", `{} {}`, 0, "after the JSON object"},
		{"garbage after the object", "{}\x00", 0, "after the JSON object"},
		{"duplicate key", "{" + entry("x", "U8", "[0]", "[0,0]") + "," + entry("x", "U8", "[0]", "[0,0]") + "}", 0, `"x" occurs twice`},
		{"unknown dtype", one("F4", "[4]", "[0,4]"), 4, `unknown type "F4"`},
		{"dtype is spelled as the format does", one("f32", "[1]", "[0,4]"), 4, `unknown type "f32"`},
		{"negative dimension", one("U8", "[-1]", "[0,4]"), 4, `shape: a whole number was expected, not "-1]`},
		{"two negative dimensions", one("U8", "[-2,-2]", "[0,4]"), 4, "shape: a whole number was expected"},
		{"fractional dimension", one("U8", "[1.5]", "[0,4]"), 4, `"x"`},
		{"dimension over int64", one("U8", "[18446744073709551616]", "[0,4]"), 4, `"x"`},
		{"dimension of 2^63-1", one("U8", "[9223372036854775807]", "[0,4]"), 4, "shape"},
		{"product is 2^64", one("U8", "[4294967296,4294967296]", "[0,0]"), 0, "shape"},
		{"product overflows by the element size", one("F64", "[4294967296,1073741824]", "[0,0]"), 0, "shape"},
		{"nine dimensions", one("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, "more than 8 dimensions"},
		{"shape disagrees with the offsets", one("F32", "[2]", "[0,4]"), 4, "bytes 0 to 4, expected 0 to 8"},
		{"past the end", one("U8", "[5]", "[0,5]"), 4, "bytes 0 to 5"},
		{"offsets of 2^64-1", one("U8", "[4]", "[18446744073709551612,18446744073709551615]"), 4, "bytes"},
		{"negative offset", one("U8", "[4]", "[-4,0]"), 4, `"x"`},
		{"reversed", one("U8", "[4]", "[4,0]"), 4, "bytes 4 to 0"},
		{"the second is reversed", two("[0,4]", "[4,0]"), 4, "bytes 4 to 0"},
		{"does not begin at 0", one("U8", "[4]", "[1,5]"), 5, "bytes 1 to 5, expected 0 to 4"},
		{"gap", two("[0,4]", "[5,9]"), 9, "bytes 5 to 9, expected 4 to 8"},
		{"overlap", two("[0,4]", "[3,7]"), 7, "bytes 3 to 7, expected 4 to 8"},
		{"the same bytes twice", two("[0,4]", "[0,4]"), 4, "bytes 0 to 4, expected 4 to 8"},
		{"bytes after the last", one("U8", "[4]", "[0,4]"), 5, "1 bytes follow"},
		{"bytes without a tensor", "{}", 3, "3 bytes follow"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(file(tt.header, tt.data))
			if err == nil || !strings.Contains(err.Error(), tt.want) || got != nil {
				t.Errorf("%v, %v, want %q in the error", got, err, tt.want)
			}
		})
	}
}

func TestHeaderLength(t *testing.T) {
	over := func(n uint64) string { return fmt.Sprintf("header of %d bytes is over the limit of 16777216", n) }
	tests := map[uint64]string{
		3: "10 bytes, of which the header takes 11", MaxHeader: "10 bytes, of which the header takes 16777224",
	}
	for _, n := range []uint64{MaxHeader + 1, 1 << 32, 1<<63 - 1, 1 << 63, 1<<64 - 8, 1<<64 - 1} {
		tests[n] = over(n)
	}
	for n, want := range tests {
		b := append(binary.LittleEndian.AppendUint64(nil, n), "{}"...)
		if _, err := Parse(b); err == nil || err.Error() != want {
			t.Errorf("length %d: %v, want %s", n, err, want)
		}
	}
	large := append(binary.LittleEndian.AppendUint64(nil, MaxHeader+1), bytes.Repeat([]byte{' '}, MaxHeader+1)...)
	if _, err := Parse(large); err == nil || err.Error() != over(MaxHeader+1) {
		t.Errorf("header over the limit: %v", err)
	}
}

func TestTruncated(t *testing.T) {
	f := file(valid, 22)
	for n := range f {
		if _, err := Parse(f[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are accepted", n, len(f))
		}
	}
}

func TestEntryLimit(t *testing.T) {
	many := func(n int) []byte {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`, i)
		}
		return file("{"+b.String()[1:]+"}", 0)
	}
	if got, err := Parse(many(MaxTensors)); err != nil || len(got) != MaxTensors {
		t.Errorf("%d tensors, %v", len(got), err)
	}
	if _, err := Parse(many(MaxTensors + 1)); err == nil || !strings.Contains(err.Error(), "more than 100000 tensors") {
		t.Errorf("one more: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(file(valid, 22))
	f.Add(file("{}", 0))
	f.Add(file(`{"x":{"dtype":"U8","shape":[4294967296,0,4],"data_offsets":[0,0]}}`, 0))
	f.Add(file(`{"x":{"dtype":"F64","shape":[-1],"data_offsets":[8,0]},"y":[null]}`, 8))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		tensors, err := Parse(b)
		if err != nil {
			return
		}
		n, err := HeaderSize(b)
		if err != nil || n > int64(len(b)) || !json.Valid(b[8:n]) {
			t.Fatalf("a header of %d bytes, %v", n, err)
		}
		if size, err := FileSize(b[:n]); err != nil || size != uint64(len(b)) {
			t.Errorf("%d bytes by the header, %v, in fact %d", size, err, len(b))
		}
		for _, x := range tensors {
			size := elementSize[x.Type]
			for _, d := range x.Shape {
				size *= d
			}
			if size != len(x.Data) || elementSize[x.Type] == 0 {
				t.Errorf("%q: %d bytes for %s %v", x.Name, len(x.Data), x.Type, x.Shape)
			}
		}
	})
}
