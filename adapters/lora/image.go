package lora

import (
	"errors"
	"math"
	"sync"

	"lorikeet/adapters/guard"
	"lorikeet/backend"
)

// Image lays adapters out for one slot of the pool: their ranks lie side by side, so
// that their changes to the base add up. They must have passed Check and
// CheckTogether. dst, of the pool's ImageSize, may hold anything; so it does after an
// error. The work is done on all cores. Errors are *Error.
func Image(dst []byte, m *backend.ModelInfo, adapters []Scaled) error {
	jobs := split(dst, m, adapters)
	failed, err := guard.Each(len(jobs), func(i int) error { return jobs[i].lay(&m.Pool) })
	if errors.Is(err, guard.ErrGone) {
		return &Error{File: jobs[failed].file, Reason: err.Error()}
	}
	return err
}

// job is the part of a weight's image that belongs to one pair: the rows of A and the
// columns of B from rank on, up to end.
type job struct {
	*Pair     // nil if no adapter changes the weight
	a, b      converter
	file      string
	dst       []byte // of the weight
	rank, end int
}

// split returns the jobs, in the pool's order.
func split(dst []byte, m *backend.ModelInfo, adapters []Scaled) []job {
	byWeight := map[string][]job{}
	converters := converters{to: m.Pool.Type}
	for _, a := range adapters {
		for i := range a.Pairs {
			p := &a.Pairs[i]
			byWeight[p.Weight] = append(byWeight[p.Weight], job{
				Pair: p, file: a.File, a: converters.get(p.A.Type, 1), b: converters.get(p.B.Type, a.Scale*p.Scale),
			})
		}
	}
	var jobs []job
	for _, w := range m.Pool.Weights {
		n := m.Pool.ImageBytes(w)
		of := byWeight[w.Name]
		if len(of) == 0 {
			of = []job{{}}
		}
		rank := 0
		for i, j := range of {
			j.dst, j.rank, j.end = dst[:n], rank, m.Pool.Rank
			if i < len(of)-1 {
				j.end = rank + j.Rank()
			}
			rank = j.end
			jobs = append(jobs, j)
		}
		dst = dst[n:]
	}
	return jobs
}

// lay writes A to the rows from rank on, Scale·scale·B to the columns from rank on, and
// zeros from there to end.
func (j *job) lay(pool *backend.Pool) error {
	if j.Pair == nil {
		clear(j.dst)
		return nil
	}
	refuse := func(m *Matrix) error {
		return &Error{j.file, m.Name, "holds a value that is not finite in the pool's " + pool.Type.String()}
	}
	size := pool.Type.Size()
	line := j.A.Cols * size
	a, b := j.dst[:pool.Rank*line], j.dst[pool.Rank*line:]
	a = a[j.rank*line : j.end*line]
	n := j.A.Rows * line
	if !j.a(a[:n], j.A.Data) {
		return refuse(&j.A)
	}
	clear(a[n:])

	line = pool.Rank * size
	n = j.B.Cols * size
	if n == line && j.B.Heads == 0 {
		if !j.b(b, j.B.Data) {
			return refuse(&j.B)
		}
		return nil
	}
	if !j.layRows(b, line, size) {
		return refuse(&j.B)
	}
	return nil
}

// layRows writes B where its columns are but a part of dst's, or its rows in another
// order. It is converted as a whole first: its rows may be as short as 8 bytes.
func (j *job) layRows(dst []byte, line, size int) bool {
	n := j.B.Cols * size
	space := scratch.Get().(*[]byte)
	defer scratch.Put(space)
	if cap(*space) < j.B.Rows*n {
		*space = make([]byte, j.B.Rows*n)
	}
	rows := (*space)[:j.B.Rows*n]
	if !j.b(rows, j.B.Data) {
		return false
	}
	dst = dst[j.rank*size:]
	width := (j.end - j.rank) * size
	if j.B.Heads == 0 {
		spread(dst, rows, j.B.Rows, n, width, line)
		return true
	}
	half := j.B.Rows / j.B.Heads / 2
	for head := 0; head < j.B.Rows; head += 2 * half { // as StoredRow has it
		spread(dst[head*line:], rows[head*n:], half, n, width, 2*line)
		spread(dst[(head+1)*line:], rows[(head+half)*n:], half, n, width, 2*line)
	}
	return true
}

// scratch is memory for a B that is laid out row by row.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// spread writes rows of n bytes, one after the other in src, every line bytes of dst, and
// zeros behind each up to width.
func spread(dst, src []byte, rows, n, width, line int) {
	if n == 8 && width == 16 { // small adapters in the smallest pool
		for row := range rows {
			to := dst[row*line:][:16]
			le.PutUint64(to, le.Uint64(src[8*row:]))
			le.PutUint64(to[8:], 0)
		}
		return
	}
	for row := range rows {
		to := dst[row*line:][:width]
		copy(to, src[row*n:][:n])
		clear(to[n:])
	}
}

// StoredRow is where the file holds the row that llama.cpp wants at row: within a
// head of 2h rows, its rows 2i and 2i+1 are transformers' rows i and h+i.
func (m *Matrix) StoredRow(row int) int {
	if m.Heads == 0 {
		return row
	}
	perHead := m.Rows / m.Heads
	head, i := row/perHead, row%perHead
	return head*perHead + i%2*(perHead/2) + i/2
}

// converters are the converters to a type, each made once.
type converters struct {
	to   backend.DataType
	made map[conversion]converter
}

type conversion struct {
	from  DataType
	scale uint32 // its bits: also of what is not a number
}

func (c *converters) get(from DataType, scale float32) converter {
	key := conversion{from, math.Float32bits(scale)}
	if made := c.made[key]; made != nil {
		return made
	}
	if c.made == nil {
		c.made = map[conversion]converter{}
	}
	c.made[key] = newConverter(from, c.to, scale)
	return c.made[key]
}
