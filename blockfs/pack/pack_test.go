package pack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/internal/digest"
)

func manifest() digest.SHA256 { return digest.Of([]byte("manifest")) }

// memory is a Source, and the blocks that it has.
type memory struct {
	entries []index.Entry
	plain   [][]byte
	stored  map[digest.SHA256][]byte
	err     error
}

func newMemory(t testing.TB, n int) *memory {
	t.Helper()
	enc, err := block.NewEncoder(3, 1)
	if err != nil {
		t.Fatal(err)
	}
	m := &memory{stored: make(map[digest.SHA256][]byte)}
	for i := range n {
		plain := make([]byte, 100+1000*i)
		rand.NewChaCha8([32]byte{byte(i), byte(i >> 8)}).Read(plain[:len(plain)/2])
		stored := enc.Encode(nil, plain)
		sum := digest.Of(plain)
		m.entries = append(m.entries, index.Entry{PlainLen: len(plain), StoredLen: len(stored), SHA256: sum})
		m.plain = append(m.plain, plain)
		m.stored[sum] = stored
	}
	return m
}

func (m *memory) Stored(_ context.Context, e index.Entry, buf []byte) ([]byte, error) {
	if m.err != nil {
		return nil, m.err
	}
	b, ok := m.stored[e.SHA256]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return append(buf[:0], b...), nil
}

func (m *memory) build(t testing.TB, blocks ...index.Entry) ([]byte, Built) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "pack"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := Build(context.Background(), f, manifest(), blocks, m)
	if err != nil {
		t.Fatalf("Build = %v", err)
	}
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return data, b
}

// use reads a pack as a target does: each block that the index has is decoded
// as the index says, all others are left alone. It returns the good blocks.
func use(r io.Reader, m *memory, limit int64) (map[digest.SHA256][]byte, error) {
	want := make(map[digest.SHA256]index.Entry)
	for _, e := range m.entries {
		want[e.SHA256] = e
	}
	got := make(map[digest.SHA256][]byte)
	p, err := NewReader(r, manifest(), limit)
	if err != nil {
		return got, err
	}
	buf := make([]byte, block.MaxStored(block.MaxPlain))
	for {
		rec, err := p.Next()
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		e, ok := want[rec.SHA256]
		if !ok {
			continue
		}
		stored, err := p.Stored(buf)
		if err != nil {
			return got, err
		}
		if plain, err := block.Decode(nil, stored, e.PlainLen, e.SHA256); err == nil {
			got[e.SHA256] = plain
		}
	}
}

func TestRoundTrip(t *testing.T) {
	m := newMemory(t, 20)
	order := []index.Entry{m.entries[7], m.entries[0], m.entries[19], m.entries[7], {PlainLen: 4096}, m.entries[3]}
	data, built := m.build(t, order...)
	if built.Records != 4 || built.Bytes != int64(len(data)) || built.Missing != 0 || built.Over != 0 || built.Manifest != manifest() {
		t.Errorf("Build = %+v with %d bytes; want 4 records", built, len(data))
	}
	if h, err := Check(bytes.NewReader(data), manifest(), int64(len(data))); err != nil || h != built.Header {
		t.Errorf("Check = %+v, %v; want %+v", h, err, built.Header)
	}
	for name, src := range map[string]io.Reader{
		"at once":    bytes.NewReader(data),
		"in bytes":   iotest.OneByteReader(bytes.NewReader(data)),
		"with more":  io.MultiReader(bytes.NewReader(data), bytes.NewReader(make([]byte, 100))),
		"as a file":  bytes.NewReader(data),
		"with error": io.MultiReader(bytes.NewReader(data), iotest.ErrReader(errors.New("broken line"))),
	} {
		t.Run(name, func(t *testing.T) {
			r, err := NewReader(src, manifest(), 0)
			if err != nil {
				t.Fatal(err)
			}
			var got []Record
			for i := 0; ; i++ {
				rec, err := r.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, rec)
				if i == 1 { // Next goes past what nobody reads
					continue
				}
				if _, err := r.Stored(make([]byte, rec.StoredLen-1)); !errors.Is(err, io.ErrShortBuffer) {
					t.Errorf("Stored with a short buffer = %v; want io.ErrShortBuffer", err)
				}
				stored, err := r.Stored(make([]byte, rec.StoredLen))
				if err != nil || !bytes.Equal(stored, m.stored[rec.SHA256]) {
					t.Errorf("Stored = %d bytes, %v; want the block as it is stored", len(stored), err)
				}
				if _, err := r.Stored(make([]byte, rec.StoredLen)); err == nil {
					t.Error("Stored again = nil; want an error")
				}
			}
			var want []Record
			for _, i := range []int{7, 0, 19, 3} {
				want = append(want, Record(m.entries[i]))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			if _, err := r.Next(); !errors.Is(err, io.EOF) {
				t.Errorf("Next after the end = %v; want io.EOF", err)
			}
		})
	}
}

func TestBuildLeavesOut(t *testing.T) {
	m := newMemory(t, 6)
	delete(m.stored, m.entries[1].SHA256)
	m.stored[m.entries[2].SHA256] = m.stored[m.entries[3].SHA256]
	m.stored[m.entries[4].SHA256] = []byte("no frame")
	data, built := m.build(t, m.entries...)
	if built.Records != 3 || built.Missing != 3 {
		t.Errorf("Build = %+v; want 3 records, 3 missing", built)
	}
	without, _ := m.build(t, m.entries[0], m.entries[3], m.entries[5])
	if !bytes.Equal(data, without) {
		t.Error("a pack with blocks missing differs from one without them")
	}

	f, err := os.Create(filepath.Join(t.TempDir(), "pack"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Build(t.Context(), f, manifest(), m.entries[1:3], m); !errors.Is(err, ErrEmpty) {
		t.Errorf("Build without any block = %v; want ErrEmpty", err)
	}
	m.err = errors.New("disk failure")
	if _, err := Build(t.Context(), f, manifest(), m.entries, m); !errors.Is(err, m.err) {
		t.Errorf("Build from a failing source = %v; want its error", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Build(ctx, f, manifest(), m.entries, m); !errors.Is(err, context.Canceled) {
		t.Errorf("Build with a context that has ended = %v; want context.Canceled", err)
	}
}

// TestHarmless gives the user of a pack everything that a pack can be, and
// looks at what reaches him: good blocks or nothing.
func TestHarmless(t *testing.T) {
	m := newMemory(t, 8)
	foreign := newMemory(t, 12)
	good, _ := m.build(t, m.entries...)
	change := func(f func([]byte)) []byte { b := bytes.Clone(good); f(b); return b }
	le := binary.LittleEndian
	first := HeaderLength + RecordLength
	reversed := append([]index.Entry{}, m.entries...)
	for i := range 4 {
		reversed[i], reversed[7-i] = reversed[7-i], reversed[i]
	}
	backwards, _ := m.build(t, reversed...)
	strange, _ := foreign.build(t, append(foreign.entries[8:12:12], foreign.entries[:2]...)...)

	// The right bytes under wrong names and lengths.
	swapped := change(func(b []byte) { copy(b[HeaderLength+8:], m.entries[1].SHA256[:]) })
	longer := change(func(b []byte) { le.PutUint32(b[HeaderLength:], 200) })

	for _, tt := range []struct {
		name   string
		src    io.Reader
		limit  int64
		blocks int
		want   error // nil: the whole pack was read
	}{
		{"good", bytes.NewReader(good), 0, 8, nil},
		{"wrong order", bytes.NewReader(backwards), 0, 8, nil},
		{"foreign blocks", bytes.NewReader(strange), 0, 2, nil},
		{"wrong byte", bytes.NewReader(change(func(b []byte) { b[first+20] ^= 1 })), 0, 7, nil},
		{"zero bytes for a block", bytes.NewReader(change(func(b []byte) { clear(b[first : first+m.entries[0].StoredLen]) })), 0, 7, nil},
		{"wrong name", bytes.NewReader(swapped), 0, 7, nil},
		{"wrong plain length", bytes.NewReader(longer), 0, 8, nil}, // the index's counts
		{"truncated in the header", bytes.NewReader(good[:20]), 0, 0, io.ErrUnexpectedEOF},
		{"truncated after the header", bytes.NewReader(good[:HeaderLength]), 0, 0, io.ErrUnexpectedEOF},
		{"truncated in a record", bytes.NewReader(good[:first-3]), 0, 0, io.ErrUnexpectedEOF},
		{"truncated in a block", bytes.NewReader(good[:len(good)-1]), 0, 7, io.ErrUnexpectedEOF},
		{"empty", bytes.NewReader(nil), 0, 0, io.ErrUnexpectedEOF},
		{"zeros without end", endless{}, 0, 0, ErrInvalid},
		{"longer than allowed", bytes.NewReader(good), int64(len(good)) - 1, 0, ErrInvalid},
		{"another manifest", bytes.NewReader(change(func(b []byte) { b[40] ^= 1 })), 0, 0, ErrInvalid},
		{"another version", bytes.NewReader(change(func(b []byte) { b[8] = 2 })), 0, 0, ErrInvalid},
		{"unknown incompatible feature", bytes.NewReader(change(func(b []byte) { b[15] = 1 })), 0, 0, ErrInvalid},
		{"unknown compatible feature", bytes.NewReader(change(func(b []byte) { b[19] = 1 })), 0, 8, nil},
		{"no records", bytes.NewReader(change(func(b []byte) { le.PutUint32(b[20:], 0) })), 0, 0, ErrInvalid},
		{"too many records", bytes.NewReader(change(func(b []byte) { le.PutUint32(b[20:], MaxRecords+1) })), 0, 0, ErrInvalid},
		{"more records than bytes", bytes.NewReader(change(func(b []byte) { le.PutUint32(b[20:], MaxRecords) })), 0, 0, ErrInvalid},
		{"a record more than there is", bytes.NewReader(change(func(b []byte) { le.PutUint32(b[20:], 9) })), 0, 7, ErrInvalid},
		{"a record less than there is", bytes.NewReader(change(func(b []byte) { le.PutUint32(b[20:], 7) })), 0, 7, ErrInvalid},
		{"bytes without end", io.MultiReader(bytes.NewReader(change(func(b []byte) { le.PutUint64(b[24:], 1<<60) })), endless{}), 0, 0, ErrInvalid},
		{"more bytes than the records have", io.MultiReader(bytes.NewReader(change(func(b []byte) { le.PutUint64(b[24:], MaxBytes) })), endless{}), 0, 8, ErrInvalid},
		{"block of 0 bytes", bytes.NewReader(change(func(b []byte) { le.PutUint32(b[HeaderLength:], 0) })), 0, 0, ErrInvalid},
		{"block over the limit", bytes.NewReader(change(func(b []byte) { le.PutUint32(b[HeaderLength:], block.MaxPlain+1) })), 0, 0, ErrInvalid},
		{"nothing stored", bytes.NewReader(change(func(b []byte) { le.PutUint32(b[HeaderLength+4:], 0) })), 0, 0, ErrInvalid},
		{"4 GB stored", bytes.NewReader(change(func(b []byte) { le.PutUint32(b[HeaderLength+4:], 1<<32-1) })), 0, 0, ErrInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			count := &counter{r: tt.src}
			got, err := use(count, m, tt.limit)
			if len(got) != tt.blocks {
				t.Errorf("the pack brought %d blocks; want %d", len(got), tt.blocks)
			}
			for i, e := range m.entries {
				if b, ok := got[e.SHA256]; ok && !bytes.Equal(b, m.plain[i]) {
					t.Errorf("block %d is wrong", i)
				}
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("reading ends with %v; want %v", err, tt.want)
			}
			if count.n > int64(max(len(good), len(strange))) {
				t.Errorf("%d bytes were read", count.n)
			}
			if tt.limit != 0 && count.n > tt.limit {
				t.Errorf("%d bytes were read; at most %d are allowed", count.n, tt.limit)
			}
		})
	}
}

// After an error nothing behind it is taken for a record.
func TestErrorsStay(t *testing.T) {
	m := newMemory(t, 3)
	data, _ := m.build(t, m.entries...)
	binary.LittleEndian.PutUint32(data[HeaderLength:], 0)
	r, err := NewReader(bytes.NewReader(data), manifest(), 0)
	if err != nil {
		t.Fatal(err)
	}
	_, first := r.Next()
	_, second := r.Next()
	if _, err := r.Stored(make([]byte, 1<<20)); first == nil || first != second || err != first {
		t.Errorf("errors %v, %v, %v; want the same three times", first, second, err)
	}
}

func TestCheckRefuses(t *testing.T) {
	m := newMemory(t, 3)
	good, _ := m.build(t, m.entries...)
	f, err := os.Create(filepath.Join(t.TempDir(), "pack"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := NewWriter(f, manifest())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		e := m.entries[0]
		if err := w.Add(e.PlainLen, e.SHA256, m.stored[e.SHA256]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	twice, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	wrong := bytes.Clone(good)
	wrong[len(wrong)-1] ^= 1
	for name, data := range map[string][]byte{
		"a block twice": twice, "wrong byte": wrong, "more behind it": append(bytes.Clone(good), 0), "truncated": good[:len(good)-1], "nothing": nil,
	} {
		if _, err := Check(bytes.NewReader(data), manifest(), int64(len(data))); err == nil {
			t.Errorf("%s: Check = nil; want an error", name)
		}
	}
	if _, err := Check(bytes.NewReader(good), digest.Of(nil), int64(len(good))); !errors.Is(err, ErrInvalid) {
		t.Errorf("Check for another manifest = %v; want ErrInvalid", err)
	}
}

func TestReaderAllocatesNothing(t *testing.T) {
	m := newMemory(t, 50)
	data, _ := m.build(t, m.entries...)
	buf := make([]byte, block.MaxStored(block.MaxPlain))
	n := testing.AllocsPerRun(10, func() {
		r, err := NewReader(bytes.NewReader(data), manifest(), 0)
		if err != nil {
			t.Error(err)
			return
		}
		for range 50 {
			if _, err := r.Next(); err != nil {
				t.Error(err)
			}
			if _, err := r.Stored(buf); err != nil {
				t.Error(err)
			}
		}
	})
	if n > 60 { // a header for each record
		t.Errorf("reading 50 records allocates %v times", n)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func FuzzReader(f *testing.F) {
	m := newMemory(f, 3)
	good, _ := m.build(f, m.entries...)
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(good[:HeaderLength])
	one, _ := m.build(f, m.entries[2])
	f.Add(one)
	f.Add(append(bytes.Clone(one), one...))
	f.Fuzz(func(t *testing.T, data []byte) {
		const limit = 1 << 20
		src := &counter{r: io.MultiReader(bytes.NewReader(data), io.LimitReader(endless{}, 2<<20))}
		r, err := NewReader(src, manifest(), limit)
		if err != nil {
			return
		}
		buf := make([]byte, block.MaxStored(block.MaxPlain))
		records := 0
		for {
			rec, err := r.Next()
			if err != nil {
				break
			}
			records++
			if rec.PlainLen < 1 || rec.PlainLen > block.MaxPlain || rec.StoredLen < 1 || rec.StoredLen > block.MaxStored(rec.PlainLen) {
				t.Fatalf("Next = %+v", rec)
			}
			if records%2 == 0 {
				if b, err := r.Stored(buf); err != nil || len(b) != rec.StoredLen {
					t.Fatalf("Stored = %d bytes, %v; want %d", len(b), err, rec.StoredLen)
				}
			}
		}
		if records > r.Header().Records || src.n > r.Header().Bytes || src.n > limit {
			t.Errorf("%d records and %d bytes were read of a pack of %+v", records, src.n, r.Header())
		}
		if _, err := Check(bytes.NewReader(data), manifest(), int64(len(data))); err == nil {
			// What Check accepts is used to the last block.
			if n, err := all(data); err != nil || n != records {
				t.Errorf("a checked pack has %d records, %v; want %d", n, err, records)
			}
		}
	})
}

func all(data []byte) (n int, err error) {
	r, err := NewReader(bytes.NewReader(data), manifest(), 0)
	for err == nil {
		if _, err = r.Next(); err == nil {
			n++
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// The example of docs/formats.md.
func TestExample(t *testing.T) {
	plain := []byte("InetBoot\n")
	enc, err := block.NewEncoder(block.DefaultLevel, 1)
	if err != nil {
		t.Fatal(err)
	}
	m := &memory{stored: map[digest.SHA256][]byte{digest.Of(plain): enc.Encode(nil, plain)}}
	data, _ := m.build(t, index.Entry{PlainLen: len(plain), StoredLen: 18, SHA256: digest.Of(plain)})
	var dump bytes.Buffer
	for i := 0; i < len(data); i += 16 {
		fmt.Fprintf(&dump, "%08x", i)
		for j, b := range data[i:min(i+16, len(data))] {
			if j%8 == 0 {
				dump.WriteByte(' ')
			}
			fmt.Fprintf(&dump, " %02x", b)
		}
		dump.WriteByte('\n')
	}
	page, err := os.ReadFile("../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(page, dump.Bytes()) {
		t.Errorf("docs/formats.md does not have the pack of the block %q:\n%s", plain, dump.String())
	}
}
