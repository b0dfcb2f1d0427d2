package convert

import (
	"slices"
	"testing"
	"testing/fstest"
)

// llama.cpp makes the same tokens of texts as the libraries that the files come from.
func TestTokens(t *testing.T) {
	for _, name := range tokenizers(t) {
		t.Run(name, func(t *testing.T) {
			e, _ := load(t, tinyBase(t, name), Options{})
			for _, want := range readExpected(t, name) {
				got, err := e.Tokenize(want.Text, true)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, want.Tokens) {
					t.Errorf("%q:\n got %v\nwant %v", want.Text, got, want.Tokens)
				}
			}
		})
	}
}

// Whatever the files say, it is a vocabulary of as many tokens as there are embeddings, no
// two alike, or an error.
func FuzzTokenizer(f *testing.F) {
	for _, name := range []string{"llama3", "pieces", "sentencepiece"} {
		dir := fstest.MapFS{}
		addTokenizer(dir, name)
		file := func(name string) []byte {
			if f := dir[name]; f != nil {
				return f.Data
			}
			return nil
		}
		f.Add(file(tokenizerFile), file(tokenizerConfigFile), file(sentencepieceFile))
	}
	f.Fuzz(func(t *testing.T, tokenizer, settings, pieces []byte) {
		dir := fstest.MapFS{}
		for name, data := range map[string][]byte{tokenizerFile: tokenizer, tokenizerConfigFile: settings, sentencepieceFile: pieces} {
			if len(data) > 0 {
				dir[name] = &fstest.MapFile{Data: data}
			}
		}
		v, err := readVocabulary(dir, &config{Vocabulary: 440})
		if err != nil {
			return
		}
		tokens := slices.Clone(v.tokens)
		slices.Sort(tokens)
		if len(slices.Compact(tokens)) != 440 || len(v.types) != 440 || v.model == "llama" && len(v.scores) != 440 {
			t.Errorf("%d tokens, %d types, %d scores", len(v.tokens), len(v.types), len(v.scores))
		}
		for word, id := range v.special {
			if id >= 440 {
				t.Errorf("%s is token %d", word, id)
			}
		}
	})
}
