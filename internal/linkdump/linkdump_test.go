package linkdump

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
)

func TestWhole(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name  string
		fails int   // attempts that fail with err
		err   error // nil: as a change in between
		want  error
		calls int
	}{
		{"at once", 0, nil, nil, 1},
		{"changes in between", 3, nil, nil, 4},
		{"never still", tries + 1, nil, netlink.ErrDumpInterrupted, tries},
		{"another error", 1, broken, broken, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			calls := 0
			got, err := whole(func() ([]int, error) {
				calls++
				if calls > tt.fails {
					return []int{1, 2}, nil
				}
				if tt.err != nil {
					return nil, tt.err
				}
				return []int{1}, netlink.ErrDumpInterrupted
			})
			if !errors.Is(err, tt.want) || calls != tt.calls {
				t.Errorf("whole = %v after %d calls; want %v after %d", err, calls, tt.want, tt.calls)
			}
			if want := []int{1, 2}; tt.want == nil && !cmp.Equal(got, want) {
				t.Errorf("whole = %v; want %v", got, want)
			}
		})
	}
}

// The loopback link is on every machine.
func TestLists(t *testing.T) {
	links, err := Links()
	if err != nil || len(links) == 0 {
		t.Fatalf("Links = %v, %v; want lo at least", links, err)
	}
	addrs, err := Addrs(nil, netlink.FAMILY_ALL)
	if err != nil || len(addrs) == 0 {
		t.Errorf("Addrs = %v, %v; want those of lo", addrs, err)
	}
	if _, err := Routes(nil, netlink.FAMILY_ALL); err != nil {
		t.Error(err)
	}
}
