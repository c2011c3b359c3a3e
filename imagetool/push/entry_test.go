package push

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/catalog"
)

func TestSetEntry(t *testing.T) {
	m := catalog.NewMenu("t")
	m.Entries = []catalog.Entry{{ID: "reboot", Title: "r", Action: catalog.ActionReboot}}
	o := Options{Name: "d", Version: "1", Title: "D"}
	for _, step := range []struct {
		image, arch string
		o           Options
		id, def     string
	}{
		{"images/d/1/amd64.json", "amd64", o, "d-1", "d-1"},
		{"images/d/1/arm64.json", "arm64", o, "d-1-arm64", "d-1"}, // another architecture, an entry of its own
		{"images/d/1/arm64.json", "arm64", Options{Name: "d", Version: "1", Title: "New", Default: true}, "d-1-arm64", "d-1-arm64"},
	} {
		if got := setEntry(m, step.image, step.arch, step.o); got != step.id || m.Default != step.def {
			t.Errorf("setEntry(%s) = %s, default %s; want %s, %s", step.image, got, m.Default, step.id, step.def)
		}
	}
	want := []catalog.Entry{
		{ID: "d-1", Title: "D", Image: "images/d/1/amd64.json", Arch: []string{"amd64"}},
		{ID: "d-1-arm64", Title: "New", Image: "images/d/1/arm64.json", Arch: []string{"arm64"}},
		{ID: "reboot", Title: "r", Action: catalog.ActionReboot},
	}
	if diff := cmp.Diff(want, m.Entries); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestPrettyName(t *testing.T) {
	for in, want := range map[string]string{
		"ID=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n": "Debian GNU/Linux 12 (bookworm)",
		"PRETTY_NAME='a \"b\"'":                                  `a "b"`,
		`PRETTY_NAME="a \"b\" \$c"`:                              `a "b" $c`,
		"PRETTY_NAME=plain":                                      "plain",
		"PRETTY_NAME=\"\x1b[31m\"":                               "",
		"NAME=x":                                                 "",
		"":                                                       "",
	} {
		if got := prettyName([]byte(in)); got != want {
			t.Errorf("prettyName(%q) = %q; want %q", in, got, want)
		}
	}
}
