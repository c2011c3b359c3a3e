package cut

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// skipReader reads data and skips its zeros, as far as it likes to.
type skipReader struct {
	rnd     *rand.Rand
	pages   bool // read whole pages
	data    []byte
	skipped int64
}

func (r *skipReader) Read(p []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	n := 1 + r.rnd.IntN(300_000)
	if r.pages {
		n = (n + page - 1) / page * page
	}
	n = copy(p[:min(len(p), n)], r.data)
	r.data = r.data[n:]
	return n, nil
}

func (r *skipReader) SkipZeros(align int) int64 {
	n := zeroPrefix(r.data) / align * align
	if n > 0 && r.rnd.IntN(4) == 0 {
		n = r.rnd.IntN(n/align+1) * align
	}
	r.data = r.data[n:]
	r.skipped += int64(n)
	return int64(n)
}

func TestSkippedZerosGiveTheSamePieces(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 4 {
		var data []byte
		unit := 1
		if i%2 == 0 {
			unit = page
		}
		for len(data) < 12<<20 {
			if rnd.IntN(2) == 0 {
				data = append(data, make([]byte, rnd.IntN(6<<20)/unit*unit)...)
			} else {
				data = append(data, noise(rnd.IntN(2<<20)/unit*unit, byte(rnd.IntN(256)))...)
			}
		}
		for name, cut := range kinds {
			r := &skipReader{rnd: rnd, pages: unit == page, data: data}
			got := pieces(t, cut(r), data)
			want := pieces(t, cut(bytes.NewReader(data)), data)
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(piece{}), cmp.Comparer(func(a, b piece) bool { return a == b })); diff != "" {
				t.Errorf("%s: pieces differ when zeros are skipped", name)
			}
			if r.skipped == 0 && (r.pages || name == "bytes") {
				t.Errorf("%s: nothing was skipped", name)
			}
		}
	}
}
