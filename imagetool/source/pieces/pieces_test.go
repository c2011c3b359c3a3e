package pieces_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/inetboot/inetboot/imagetool/source/pieces"
)

// disk is one in pieces of 4 bytes.
type disk []byte

func (d disk) ReadAt(p []byte, off int64) (int, error) {
	return pieces.ReadAt(p, off, int64(len(d)), 4, func(part []byte, piece, skip int64) error {
		copy(part, d[4*piece : min(4*piece+4, int64(len(d)))][skip:])
		return nil
	})
}

func TestReadAt(t *testing.T) {
	d := disk("0123456789")
	for off := range int64(12) {
		for n := range 12 {
			want := make([]byte, n)
			wantN, wantErr := bytes.NewReader(d).ReadAt(want, off)
			got := make([]byte, n)
			if n, err := d.ReadAt(got, off); n != wantN || !errors.Is(err, wantErr) || !bytes.Equal(got, want) {
				t.Errorf("ReadAt(%d bytes, %d) = %d, %v, %q; want %d, %v, %q", len(got), off, n, err, got, wantN, wantErr, want)
			}
		}
	}
	if _, err := d.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("a negative offset is read")
	}
	if err := iotest.TestReader(io.NewSectionReader(d, 0, 10), d); err != nil {
		t.Error(err)
	}
}

// What was read before an error counts.
func TestError(t *testing.T) {
	bad := errors.New("bad")
	n, err := pieces.ReadAt(make([]byte, 10), 1, 20, 4, func(_ []byte, piece, _ int64) error {
		if piece == 2 {
			return bad
		}
		return nil
	})
	if n != 7 || !errors.Is(err, bad) {
		t.Errorf("ReadAt() = %d, %v; want 7 and the error", n, err)
	}
}
