package lan

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestListeners(t *testing.T) {
	table := func(states ...string) *strings.Reader {
		text := "sl local_address rem_address st\n"
		for _, a := range states {
			at, state, _ := strings.Cut(a, " ")
			text += "0: " + at + " 00000000:0000 " + state + " 00000000:00000000 00:00000000 00000000 0 0 1234 1 0 100 0 0 10 0\n"
		}
		return strings.NewReader(text)
	}
	tcp := table("00000000:0016 0A", "0100007F:0035 0A", "0101000A:0050 0A", "0101000A:0051 01", "00000000000000000000000001000000:0019 0A",
		"0000000000000000FFFF00000100007F:001A 0A", "00000000000000000000000000000000:01BB 0A", "bad", "x:y 0A")
	if d := cmp.Diff([]Listener{{"tcp", 22}, {"tcp", 80}, {"tcp", 443}}, listeners(tcp, "tcp")); d != "" {
		t.Error(d)
	}
	udp := table("00000000:0045 07", "0101000A:0046 01", "00000000:F000 07", "0100007F:0035 07")
	if d := cmp.Diff([]Listener{{"udp", 69}}, listeners(udp, "udp")); d != "" {
		t.Error(d)
	}
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	all, err := Listeners()
	if err != nil || !slices.Contains(all, Listener{"tcp", l.Addr().(*net.TCPAddr).Port}) {
		t.Errorf("%v is not among %v, %v", l.Addr(), all, err)
	}
}
