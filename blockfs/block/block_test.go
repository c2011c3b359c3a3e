package block

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/inetboot/inetboot/internal/digest"
)

func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// text is compressible and never repeats exactly.
func text(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "line %d of a file that compresses well\n", i*i)
	}
	return b.Bytes()[:n]
}

func newEncoder(t testing.TB, level int) *Encoder {
	t.Helper()
	e, err := NewEncoder(level, 0)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestRoundTrip(t *testing.T) {
	for _, level := range []int{1, 3, 9, 19} {
		e := newEncoder(t, level)
		for _, n := range []int{1, 2, 255, 256, 257, 1000, 65535, 65536, 65791, 65792, 131072, 131073, 262144, 1<<20 - 1, 1 << 20} {
			for name, plain := range map[string][]byte{"noise": noise(n, 1), "text": text(n), "zero": make([]byte, n)} {
				stored := e.Encode([]byte("prefix"), plain)
				if !bytes.HasPrefix(stored, []byte("prefix")) {
					t.Fatalf("Encode does not append")
				}
				stored = stored[len("prefix"):]
				if len(stored) > MaxStored(n) {
					t.Errorf("level %d: Encode(%s, %d) has %d bytes; want at most %d", level, name, n, len(stored), MaxStored(n))
				}
				var h zstd.Header
				if err := h.Decode(stored); err != nil || !h.HasFCS || !h.SingleSegment || h.HasCheckSum || h.FrameContentSize != uint64(n) {
					t.Errorf("level %d: header of %s, %d = %+v, %v; want a single segment with size, no checksum", level, name, n, h, err)
				}
				got, err := Decode(nil, stored, n, digest.Of(plain))
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("level %d: Decode(Encode(%s, %d)) = %d bytes, %v; want the content", level, name, n, len(got), err)
				}
			}
		}
	}
}

func TestIncompressibleIsRaw(t *testing.T) {
	plain := noise(300_000, 2)
	stored := newEncoder(t, 3).Encode(nil, plain)
	if want := len(plain) + 9 + 3*3; len(stored) != want {
		t.Errorf("Encode(noise) has %d bytes; want %d: raw blocks", len(stored), want)
	}
}

func TestDecodeUsesBuffer(t *testing.T) {
	plain := text(100_000)
	stored := newEncoder(t, 3).Encode(nil, plain)
	buf := make([]byte, 0, len(plain)+Slack)
	got, err := Decode(buf, stored, len(plain), digest.Of(plain))
	if err != nil || &got[0] != &buf[:1][0] {
		t.Errorf("Decode = %v; want the result in the buffer given", err)
	}
	want := digest.Of(plain)
	// The least of many, because the race detector has sync.Pool forget some
	// of what it keeps.
	least := uint64(math.MaxUint64)
	for range 50 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := Decode(buf, stored, len(plain), want); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	if most := uint64(len(plain) / 10); least > most {
		t.Errorf("Decode allocates %d bytes; want at most %d: none for the content", least, most)
	}
}

func TestDecodeRefuses(t *testing.T) {
	e := newEncoder(t, 3)
	plain := text(200_000)
	good := e.Encode(nil, plain)
	sum := digest.Of(plain)
	flip := func(i int) []byte { b := bytes.Clone(good); b[i] ^= 1; return b }
	other := text(200_001)[1:]

	zw, err := zstd.NewWriter(nil, zstd.WithSingleSegment(false))
	if err != nil {
		t.Fatal(err)
	}
	defer zw.Close()
	var unsized bytes.Buffer
	sw, err := zstd.NewWriter(&unsized)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range [][]byte{plain[:1000], plain[1000:]} {
		if _, err := sw.Write(p); err != nil {
			t.Fatal(err)
		}
		if err := sw.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := sw.Close(); err != nil {
		t.Fatal(err)
	}

	tests := []struct {
		name   string
		stored []byte
		plain  int
		want   error
	}{
		{"empty", nil, len(plain), ErrFormat},
		{"truncated header", good[:5], len(plain), ErrFormat},
		{"truncated", good[:len(good)-1], len(plain), ErrFormat},
		{"magic", flip(0), len(plain), ErrFormat},
		{"content size in the header", flip(6), len(plain), ErrFormat},
		{"other length listed", good, len(plain) + 1, ErrFormat},
		{"other content", e.Encode(nil, other), len(plain), digest.ErrMismatch},
		{"two frames", append(bytes.Clone(good), good...), len(plain), ErrFormat},
		{"too many stored bytes", append(bytes.Clone(good), make([]byte, MaxStored(len(plain)))...), len(plain), ErrFormat},
		{"no content size", unsized.Bytes(), len(plain), ErrFormat},
		{"bomb", zw.EncodeAll(make([]byte, 64<<20), nil), 1 << 20, ErrFormat},
		{"skippable", append([]byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0}, 0), len(plain), ErrFormat},
		{"plain", plain, len(plain), ErrFormat},
		{"length 0", good, 0, ErrFormat},
		{"length over the limit", good, MaxPlain + 1, ErrFormat},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Decode(nil, tt.stored, tt.plain, sum)
			if !errors.Is(err, tt.want) || got != nil {
				t.Errorf("Decode = %d bytes, %v; want an error that wraps %q", len(got), err, tt.want)
			}
		})
	}
	for i := range 500 {
		b := bytes.Clone(good)
		b[(i*7919)%len(b)] ^= byte(1 + i%255)
		if got, err := Decode(nil, b, len(plain), sum); err == nil && !bytes.Equal(got, plain) {
			t.Fatalf("Decode of a block with a changed byte = wrong bytes without an error")
		}
	}
}

func TestConcurrent(t *testing.T) {
	e := newEncoder(t, 1)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 20 {
				plain := noise(1000*(i+1)+j, byte(i))
				if got, err := Decode(nil, e.Encode(nil, plain), len(plain), digest.Of(plain)); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("Decode(Encode(%d bytes)) = %v", len(plain), err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzDecode(f *testing.F) {
	e := newEncoder(f, 3)
	for _, p := range [][]byte{{0}, text(100), text(70_000), noise(300, 1), make([]byte, 1<<20)} {
		f.Add(e.Encode(nil, p), len(p))
	}
	f.Fuzz(func(t *testing.T, stored []byte, n int) {
		got, err := Decode(nil, stored, n, digest.SHA256{})
		if err == nil {
			t.Errorf("Decode = %d bytes that hash to zero", len(got))
		}
		// The content that it would have is checked by hashing what comes out.
		var mismatch *digest.MismatchError
		if errors.As(err, &mismatch) {
			if _, err := Decode(nil, stored, n, mismatch.Got); err != nil {
				t.Errorf("Decode with the hash that it reported = %v; want nil", err)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	e := newEncoder(b, DefaultLevel)
	for name, plain := range map[string][]byte{"text": text(256 << 10), "noise": noise(256<<10, 1)} {
		b.Run(name, func(b *testing.B) {
			stored, want := e.Encode(nil, plain), digest.Of(plain)
			buf := make([]byte, 0, len(plain)+Slack)
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				if _, err := Decode(buf, stored, len(plain), want); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, level := range []int{1, 3, 9, 19} {
		e := newEncoder(b, level)
		plain := append(text(128<<10), noise(128<<10, 1)...)
		b.Run(fmt.Sprintf("level%d", level), func(b *testing.B) {
			var buf []byte
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				buf = e.Encode(buf[:0], plain)
			}
		})
	}
}
