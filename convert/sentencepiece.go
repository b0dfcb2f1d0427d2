package convert

import (
	"fmt"
	"io/fs"
	"strings"

	"github.com/ollama/ollama/convert/sentencepiece"
	"google.golang.org/protobuf/proto"
)

// fromSentencepiece takes the tokens of tokenizer.model over.
func (v *vocabulary) fromSentencepiece(dir fs.FS) error {
	data, err := readSmall(dir, sentencepieceFile, maxTokenizerSize)
	if err != nil {
		return err
	}
	var model sentencepiece.ModelProto
	if err := proto.Unmarshal(data, &model); err != nil {
		return fmt.Errorf("not a model of sentencepiece: %w", err)
	}
	if t := model.GetTrainerSpec().GetModelType(); t != sentencepiece.TrainerSpec_BPE {
		return fmt.Errorf("a model of type %s is not served (BPE is)", t)
	}
	if n := len(model.GetPieces()); n == 0 || n > len(v.tokens) {
		return fmt.Errorf("%d tokens, but vocab_size is %d", n, len(v.tokens))
	}
	v.model = "llama"
	v.scores = make([]float32, len(v.tokens))
	v.spacePrefix = model.GetNormalizerSpec().GetAddDummyPrefix()
	for i, p := range model.GetPieces() {
		v.tokens[i], v.types[i], v.scores[i] = p.GetPiece(), int32(p.GetType()), p.GetScore()
		if v.types[i] == tokenUserDefined { // its spaces are written out in texts
			v.tokens[i] = strings.ReplaceAll(p.GetPiece(), spaceMark, " ")
		}
	}
	return nil
}
