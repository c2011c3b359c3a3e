package configure

import "testing"

// An interface is named only where nobody has named one.
func TestNameInterface(t *testing.T) {
	const named = "INTERFACESv4=\"eth0\"\n"
	for old, want := range map[string]string{
		"# x\nINTERFACESv4=\"\"\nINTERFACESv6=\"\"\n": "# x\n" + named + "INTERFACESv6=\"\"\n",
		"INTERFACESv4=\n":                            named,
		"OPTIONS=\"\"\n":                             "OPTIONS=\"\"\n" + named,
		"INTERFACESv4=\"eth1\"\n":                    "",
		"INTERFACESv4=\"\"\nINTERFACESv6=\"eth1\"\n": "",
		"INTERFACES=\"eth1\"\n":                      "",
	} {
		got, ok := nameInterface(old, "eth0")
		if ok != (want != "") || got != want {
			t.Errorf("%q: %q, %v; want %q", old, got, ok, want)
		}
	}
}
