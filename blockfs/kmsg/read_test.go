package kmsg

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Record
		err  error
	}{
		{"6,339,5140900,-;NET: Registered PF_INET6 protocol family\n", Record{0, 6, 5140900 * time.Microsecond, "NET: Registered PF_INET6 protocol family"}, nil},
		{"29,340,7,-,caller=T1;inetboot: root mounted; in 1.2 s\n SUBSYSTEM=pci\n DEVICE=+pci:0\n", Record{3, 5, 7 * time.Microsecond, "inetboot: root mounted; in 1.2 s"}, nil},
		{"4,1,1,-;", Record{0, 4, time.Microsecond, ""}, nil},
		{"", Record{}, ErrRecord},
		{"6,339;x\n", Record{}, ErrRecord},
		{"6,339,1,-\n", Record{}, ErrRecord},
		{"x,339,1,-;x\n", Record{}, ErrRecord},
		{"6,339,-1,-;x\n", Record{}, ErrRecord},
		{"6,339,99999999999999999999,-;x\n", Record{}, ErrRecord},
	} {
		got, err := Parse([]byte(tt.in))
		if diff := cmp.Diff(tt.want, got); diff != "" || !errors.Is(err, tt.err) {
			t.Errorf("Parse(%q) = %v; want %v (-want +got):\n%s", tt.in, err, tt.err, diff)
		}
	}
}

// reads returns one of them at a time, as the device does.
type reads []any

func (r *reads) Read(b []byte) (int, error) {
	if len(*r) == 0 {
		return 0, io.EOF
	}
	next := (*r)[0]
	*r = (*r)[1:]
	if err, ok := next.(error); ok {
		return 0, err
	}
	return copy(b, next.(string)), nil
}

func TestEach(t *testing.T) {
	var got []string
	keep := func(r Record) bool { got = append(got, r.Text); return r.Text != "last" }
	if err := Each(&reads{"6,1,1,-;one\n", unix.EPIPE, "nonsense", "6,9,1,-;two\n"}, keep); err != nil {
		t.Error(err)
	}
	if err := Each(&reads{"6,1,1,-;last\n", "6,9,1,-;never\n"}, keep); err != nil {
		t.Error(err)
	}
	if err := Each(&reads{unix.EBADF}, keep); !errors.Is(err, unix.EBADF) {
		t.Errorf("Each = %v; want EBADF", err)
	}
	if s := strings.Join(got, " "); s != "one two last" {
		t.Errorf("records %q", s)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("29,340,7,-,caller=T1;inetboot: x\n SUBSYSTEM=pci\n"))
	f.Add([]byte("6,339,5140900,-;"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err == nil && (r.Severity < 0 || r.Severity > 7 || r.Facility < 0 || r.Age < 0 || strings.Contains(r.Text, "\n")) {
			t.Errorf("Parse(%q) = %+v", b, r)
		}
	})
}
