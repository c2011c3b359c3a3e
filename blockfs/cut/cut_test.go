package cut

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

var kinds = map[string]func(io.Reader) *Cutter{"pages": Pages, "bytes": Bytes}

func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

type piece struct {
	zero bool
	data string
}

// pieces cuts all of r. It fails the test if the pieces are not r's bytes.
func pieces(t testing.TB, c *Cutter, data []byte) []piece {
	t.Helper()
	var out []piece
	buf := make([]byte, 0, Max)
	rest := data
	for {
		ch, err := c.Next(buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n := len(ch.Data)
		if (n == 0) == (ch.Zero == 0) || n > Max {
			t.Fatalf("piece with %d bytes and %d zeros", n, ch.Zero)
		}
		if ch.Zero > 0 {
			n = int(ch.Zero)
			if n > len(rest) || zeroPrefix(rest[:n]) != n {
				t.Fatalf("%d bytes at %d are reported as zeros; want what is there", n, len(data)-len(rest))
			}
			out = append(out, piece{true, fmt.Sprint(n)})
		} else {
			if !bytes.HasPrefix(rest, ch.Data) {
				t.Fatalf("piece at %d is not what is there", len(data)-len(rest))
			}
			if &ch.Data[0] != &buf[:1][0] {
				t.Fatalf("piece of %d bytes is not in the buffer given", n)
			}
			out = append(out, piece{false, string(ch.Data)})
		}
		rest = rest[n:]
	}
	if len(rest) > 0 {
		t.Fatalf("%d bytes are missing at the end", len(rest))
	}
	return out
}

// TestGolden fails when cuts move: every publisher would have to upload
// everything anew. The input is SHA-256 in counter mode.
func TestGolden(t *testing.T) {
	var data []byte
	for i := range uint64(16 << 20 / 32) {
		s := sha256.Sum256(binary.LittleEndian.AppendUint64(nil, i))
		data = append(data, s[:]...)
	}
	clear(data[3<<20+5000 : 3<<20+300_000])
	clear(data[9<<20-70_000 : 9<<20])
	want := map[string]string{
		"pages": "65 9cc3d184eaa68e57",
		"bytes": "53 3c94fd1f439f3592",
	}
	for name, cut := range kinds {
		h := sha256.New()
		ps := pieces(t, cut(bytes.NewReader(data)), data)
		for _, p := range ps {
			fmt.Fprintln(h, p.zero, len(p.data), p.data[:1])
		}
		if got := fmt.Sprintf("%d %s", len(ps), hex.EncodeToString(h.Sum(nil)[:8])); got != want[name] {
			t.Errorf("%s: cuts = %s; want %s", name, got, want[name])
		}
	}
}

func TestLengths(t *testing.T) {
	data := noise(128<<20, 1)
	for name, cut := range kinds {
		ps := pieces(t, cut(bytes.NewReader(data)), data)
		for i, p := range ps {
			if n := len(p.data); i < len(ps)-1 && (n < Min || name == "pages" && n%page != 0) {
				t.Errorf("%s: piece %d has %d bytes", name, i, n)
			}
		}
		if avg := len(data) / len(ps); avg < Average*9/10 || avg > Average*11/10 {
			t.Errorf("%s: average piece has %d bytes; want about %d", name, avg, Average)
		}
	}
}

func TestReadersDoNotMatter(t *testing.T) {
	data := noise(5<<20+123, 2)
	clear(data[1<<20+1 : 2<<20+7])
	clear(data[4<<20:])
	for name, cut := range kinds {
		want := pieces(t, cut(bytes.NewReader(data)), data)
		for rname, r := range map[string]io.Reader{
			"half":     iotest.HalfReader(bytes.NewReader(data)),
			"data+EOF": iotest.DataErrReader(bytes.NewReader(data)),
			"odd":      &oddReader{data, 4097},
		} {
			if diff := cmp.Diff(want, pieces(t, cut(r), data), cmp.AllowUnexported(piece{})); diff != "" {
				t.Errorf("%s: cuts of a %s reader differ", name, rname)
			}
		}
	}
}

type oddReader struct {
	b []byte
	n int
}

func (r *oddReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.n)], r.b)
	r.b = r.b[n:]
	return n, nil
}

func TestShiftKeepsBlocks(t *testing.T) {
	data := noise(32<<20, 3)
	for _, tt := range []struct {
		kind   string
		insert int
	}{{"pages", page}, {"pages", 7 * page}, {"bytes", 1}, {"bytes", 100_003}} {
		cut := kinds[tt.kind]
		changed := slices.Concat(data[:10<<20], noise(tt.insert, 4), data[10<<20:])
		old := map[piece]bool{}
		for _, p := range pieces(t, cut(bytes.NewReader(data)), data) {
			old[p] = true
		}
		fresh := 0
		for _, p := range pieces(t, cut(bytes.NewReader(changed)), changed) {
			if !old[p] {
				fresh += len(p.data)
			}
		}
		if fresh > 3<<20 {
			t.Errorf("%s: %d bytes put in make %d new bytes of blocks; want at most 3 MiB", tt.kind, tt.insert, fresh)
		}
	}
}

func TestZeros(t *testing.T) {
	z := func(n int) []byte { return make([]byte, n) }
	tests := []struct {
		name string
		data []byte
		want map[string][]string // zero runs
	}{
		{"nothing", nil, map[string][]string{}},
		{"one zero", z(1), map[string][]string{"pages": {"1"}, "bytes": {"1"}}},
		{"only zeros", z(10<<20 + 3), map[string][]string{"pages": {"10485763"}, "bytes": {"10485763"}}},
		{"short run", slices.Concat(noise(page, 1), z(Min-page), noise(page, 1)), map[string][]string{}},
		{"run on pages", slices.Concat(noise(page, 1), z(Min), noise(page, 1)), map[string][]string{"pages": {"65536"}, "bytes": {"65536"}}},
		{"run off pages", slices.Concat(noise(100, 1), z(Min+page-200), noise(100, 1)), map[string][]string{"bytes": {"69432"}}},
		{"run over pages", slices.Concat(noise(100, 1), z(Min+2*page), noise(100, 1)), map[string][]string{"pages": {"69632"}, "bytes": {"73728"}}},
		{"at the end", slices.Concat(noise(5*page, 1), z(Min+5)), map[string][]string{"pages": {"65541"}, "bytes": {"65541"}}},
	}
	for _, tt := range tests {
		for name, cut := range kinds {
			var got []string
			for _, p := range pieces(t, cut(bytes.NewReader(tt.data)), tt.data) {
				if p.zero {
					got = append(got, p.data)
				}
			}
			if diff := cmp.Diff(tt.want[name], got); diff != "" {
				t.Errorf("%s: %s: runs of zeros (-want +got):\n%s", tt.name, name, diff)
			}
		}
	}
}

func TestReadError(t *testing.T) {
	broken := errors.New("broken")
	for name, cut := range kinds {
		c := cut(io.MultiReader(bytes.NewReader(noise(3<<20, 1)), iotest.ErrReader(broken)))
		var err error
		for err == nil {
			_, err = c.Next(nil)
		}
		if !errors.Is(err, broken) {
			t.Errorf("%s: Next = %v; want the reader's error", name, err)
		}
	}
}

func FuzzCut(f *testing.F) {
	f.Add(uint32(1), uint32(70_000), uint32(3))
	f.Add(uint32(4096), uint32(1<<20), uint32(2<<20))
	f.Add(uint32(0), uint32(65536), uint32(0))
	f.Fuzz(func(t *testing.T, a, zeros, b uint32) {
		data := slices.Concat(noise(int(a%(2<<20)), 1), make([]byte, zeros%(3<<20)), noise(int(b%(2<<20)), 2))
		for _, cut := range kinds {
			pieces(t, cut(bytes.NewReader(data)), data)
		}
	})
}

func BenchmarkCut(b *testing.B) {
	data := noise(64<<20, 1)
	for name, cut := range kinds {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			buf := make([]byte, 0, Max)
			for b.Loop() {
				c := cut(bytes.NewReader(data))
				for {
					if _, err := c.Next(buf); err != nil {
						break
					}
				}
			}
		})
	}
}
