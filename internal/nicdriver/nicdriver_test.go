package nicdriver

import "testing"

func TestSame(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"e1000", "e1000", true},
		{"ne2k-pci", "ne2k_pci", true},
		{"atl1e", "ATL1E", true},
		{"e1000", "e1000e", false},
		{"", "e100", false},
	} {
		if got := Same(tt.a, tt.b); got != tt.want {
			t.Errorf("Same(%q, %q) = %v; want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestMediaNamesEachOnce(t *testing.T) {
	all := Media()
	for i, d := range all {
		for _, e := range all[:i] {
			if d.Option == e.Option || Same(d.Module, e.Module) {
				t.Errorf("%v is there twice: %v", d, e)
			}
		}
	}
}
