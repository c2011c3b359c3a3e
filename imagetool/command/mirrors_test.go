package command_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/imagetool/command"
	"github.com/inetboot/inetboot/internal/mirror/mirrortest"
)

type mirrorsJSON struct {
	Catalog   uint64
	Unchanged bool
	Mirrors   []struct {
		URL, Location, Error string
		OK                   *bool
		Version              uint64  `json:"catalog"`
		RTT                  float64 `json:"rtt_ms"`
	}
}

func (c *tool) mirrors(want int, args ...string) mirrorsJSON {
	c.t.Helper()
	out, _ := c.run(want, append([]string{"mirrors", "--json"}, args...)...)
	var m mirrorsJSON
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		c.t.Fatalf("mirrors %v = %q: %v", args, out, err)
	}
	return m
}

func TestMirrors(t *testing.T) {
	c := newTool(t)
	store := filepath.Join(t.TempDir(), "store")
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", store)
	if m := c.mirrors(command.ExitOK); len(m.Mirrors) != 0 || m.Catalog != 1 {
		t.Errorf("mirrors of a new store = %+v", m)
	}

	copied := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(copied, os.DirFS(store)); err != nil {
		t.Fatal(err)
	}
	good := mirrortest.Serve(t, http.FileServer(http.Dir(store))).URL
	behind := mirrortest.Serve(t, http.FileServer(http.Dir(copied))).URL
	absent := mirrortest.Refusing(t)

	if out, _ := c.run(command.ExitOK, "mirrors", "add", good+"/", "--location", "here", "--check"); !strings.Contains(out, "version 2 names 1 mirrors") {
		t.Errorf("mirrors add says %q", out)
	}
	if m := c.mirrors(command.ExitOK, "add", good); !m.Unchanged || len(m.Mirrors) != 1 {
		t.Errorf("adding it again = %+v; want no change", m)
	}
	if _, errs := c.run(command.ExitStore, "mirrors", "add", good, absent, "--check"); !strings.Contains(errs, absent) {
		t.Errorf("adding a mirror that is not there says %q; want its URL", errs)
	}
	if m := c.mirrors(command.ExitOK, "add", behind, absent); m.Catalog != 3 || len(m.Mirrors) != 3 {
		t.Errorf("mirrors add = %+v; want three in version 3", m)
	}

	m := c.mirrors(command.ExitStore, "--check")
	if len(m.Mirrors) != 3 {
		t.Fatalf("mirrors --check = %+v; want three", m)
	}
	for i, want := range []struct {
		ok      bool
		version uint64
		text    string
	}{{true, 3, ""}, {false, 1, "it has catalog 1, the store has 3"}, {false, 0, "refused"}} {
		got := m.Mirrors[i]
		if got.OK == nil || *got.OK != want.ok || got.Version != want.version || !strings.Contains(got.Error, want.text) || (got.RTT > 0) != (want.version > 0) {
			t.Errorf("mirror %d = %+v; want %+v", i, got, want)
		}
	}
	if m.Mirrors[0].Location != "here" {
		t.Errorf("location = %q", m.Mirrors[0].Location)
	}
	if out, _ := c.run(command.ExitStore, "mirrors", "--check"); !strings.Contains(out, "STATE") || !strings.Contains(out, "3 mirrors in catalog version 3") {
		t.Errorf("mirrors --check = %q", out)
	}
	// The other commands do not take the list for an image.
	if out, _ := c.run(command.ExitOK, "ls"); !strings.Contains(out, "0 images") {
		t.Errorf("ls = %q", out)
	}

	c.run(command.ExitUsage, "mirrors", "remove", "http://other/")
	if m := c.mirrors(command.ExitOK, "remove", good, absent+"/"); m.Catalog != 4 || len(m.Mirrors) != 1 {
		t.Errorf("mirrors remove = %+v; want one left in version 4", m)
	}
	if m := c.mirrors(command.ExitOK, "remove", behind); m.Catalog != 5 || len(m.Mirrors) != 0 {
		t.Errorf("mirrors remove of the last = %+v", m)
	}
	if m := c.mirrors(command.ExitOK); len(m.Mirrors) != 0 || m.Catalog != 5 {
		t.Errorf("mirrors after all were removed = %+v", m)
	}

	c.run(command.ExitUsage, "mirrors", "add")
	c.run(command.ExitUsage, "mirrors", "remove")
	c.run(command.ExitUsage, "mirrors", "add", "ftp://x/")
	c.run(command.ExitUsage, "mirrors", "add", "http://x/", "--location", "a\x1bb")
	many := []string{"mirrors", "add"}
	for i := range 65 {
		many = append(many, "http://m"+strings.Repeat("x", i)+"/")
	}
	c.run(command.ExitUsage, many...)
}
