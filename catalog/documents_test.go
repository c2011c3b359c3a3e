package catalog_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/catalogtest"
	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/strictjson"
)

const menuHead = `{"format":"inetboot-menu/1","title":"T","timeout":5,`

func TestParseMenu(t *testing.T) {
	m, err := catalog.ParseMenu([]byte(menuHead + `"default":"b","future":{"x":[1,2]},"entries":[
		{"id":"a","title":"A","entries":[{"id":"b","title":"B","image":"images/x/1/amd64.json","cmdline":"c","help":"line\nline","arch":["amd64"]}]},
		{"id":"new","title":"New","requires":["rockets"],"launch":1},
		{"id":"odd","title":"Odd","action":"make-tea"},
		{"id":"off","title":"Off","action":"poweroff"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if e := m.Find("b"); e == nil || e.Title != "B" || e.Usable("amd64") != nil || e.Usable("arm64") == nil {
		t.Errorf("Find(b) = %+v", e)
	}
	var req *strictjson.RequiresError
	for id, missing := range map[string]string{"new": "rockets", "odd": "make-tea"} {
		if err := m.Find(id).Usable("amd64"); !errors.As(err, &req) || !strings.Contains(err.Error(), missing) {
			t.Errorf("Usable() of %s = %v; want a RequiresError that names %s", id, err, missing)
		}
	}
	if err := m.Find("off").Usable("amd64"); err != nil {
		t.Errorf("Usable() of off = %v", err)
	}
	if m.Find("none") != nil {
		t.Error("Find(none) found something")
	}
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := catalog.ParseMenu(b)
	if err != nil || !cmp.Equal(m, again) {
		t.Errorf("menu does not survive Marshal: %v", err)
	}
}

func TestParseMenuRefuses(t *testing.T) {
	entry := func(s string) string { return menuHead + `"entries":[` + s + `]}` }
	deep := `{"id":"x","title":"x","action":"reboot"}`
	for i := range 9 {
		deep = fmt.Sprintf(`{"id":"x%d","title":"x","entries":[%s]}`, i, deep)
	}
	var many strings.Builder
	for i := range 10_001 {
		fmt.Fprintf(&many, `,{"id":"e%d","title":"x","action":"reboot"}`, i)
	}
	var req *strictjson.RequiresError
	for name, doc := range map[string]string{
		"no JSON":                    `x`,
		"another format":             `{"format":"inetboot-menu/2","title":"T","timeout":5,"entries":[]}`,
		"twice":                      menuHead + `"title":"U","entries":[]}`,
		"twice in another case":      menuHead + `"TITLE":"U","entries":[]}`,
		"timeout too small":          `{"format":"inetboot-menu/1","title":"T","timeout":-2,"entries":[]}`,
		"timeout too large":          `{"format":"inetboot-menu/1","title":"T","timeout":86401,"entries":[]}`,
		"escape in the title":        `{"format":"inetboot-menu/1","title":"\u001b[2J","timeout":5,"entries":[]}`,
		"long title":                 `{"format":"inetboot-menu/1","title":"` + strings.Repeat("x", 201) + `","timeout":5,"entries":[]}`,
		"escape in an entry":         entry(`{"id":"a","title":"\u009b","action":"reboot"}`),
		"direction mark":             entry(`{"id":"a","title":"\u202e","action":"reboot"}`),
		"escape in the command line": entry(`{"id":"a","title":"a","action":"reboot","cmdline":"\u0000"}`),
		"carriage return in help":    entry(`{"id":"a","title":"a","action":"reboot","help":"\r"}`),
		"no title":                   entry(`{"id":"a","action":"reboot"}`),
		"no id":                      entry(`{"title":"a","action":"reboot"}`),
		"id with a slash":            entry(`{"id":"a/b","title":"a","action":"reboot"}`),
		"same id twice":              entry(`{"id":"a","title":"a","action":"reboot"},{"id":"a","title":"b","action":"reboot"}`),
		"nothing to do":              entry(`{"id":"a","title":"a"}`),
		"two things to do":           entry(`{"id":"a","title":"a","action":"reboot","image":"x"}`),
		"image outside":              entry(`{"id":"a","title":"a","image":"../x"}`),
		"default is no entry":        menuHead + `"default":"x","entries":[]}`,
		"nested too deep":            entry(deep),
		"too many":                   entry(many.String()[1:]),
		"too large":                  entry(`{"id":"a","title":"a","action":"reboot"}`) + strings.Repeat(" ", catalog.MaxTarget),
	} {
		if _, err := catalog.ParseMenu([]byte(doc)); !errors.Is(err, catalog.ErrFormat) {
			t.Errorf("%s: ParseMenu() = %v; want ErrFormat", name, err)
		}
	}
	if _, err := catalog.ParseMenu([]byte(menuHead + `"requires":["x"],"entries":[]}`)); !errors.As(err, &req) {
		t.Errorf("unknown requirement: ParseMenu() = %v; want a RequiresError", err)
	}
}

func TestParseManifest(t *testing.T) {
	good, err := manifest().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	m, err := catalog.ParseManifest(good)
	if err != nil || !cmp.Equal(m, manifest()) {
		t.Fatalf("ParseManifest() = %+v, %v; want what was marshalled", m, err)
	}
	var req *strictjson.RequiresError
	for _, tc := range []struct {
		name, old, with string
		requires        bool
	}{
		{name: "another format", old: catalog.ManifestFormat, with: "inetboot-manifest/2"},
		{name: "unknown requirement", old: `"name": "debian"`, with: `"name": "debian", "requires": ["x"]`, requires: true},
		{name: "name outside", old: `"debian"`, with: `"../debian"`},
		{name: "no version", old: `"version": "12"`, with: `"version": ""`},
		{name: "arch with a space", old: `"amd64"`, with: `"amd 64"`},
		{name: "twice", old: `"version": "12"`, with: `"version": "12", "version": "13"`},
		{name: "twice in another case", old: `"version": "12"`, with: `"version": "12", "vErsion": "13"`},
		{name: "control character in the command line", old: `"quiet"`, with: `"qui\u001bet"`},
		{name: "kernel without size", old: `"size": 1,`, with: `"size": 0,`},
		{name: "kernel too large", old: `"size": 1,`, with: `"size": 99999999999,`},
		{name: "negative memory", old: `"memory": 1048576`, with: `"memory": -1`},
		{name: "no root type", old: `"erofs"`, with: `""`},
		{name: "root file outside", old: `"meta"`, with: `"/meta"`},
		{name: "root file hidden", old: `"meta"`, with: `".meta"`},
		{name: "number as string", old: `"memory": 1048576`, with: `"memory": "1"`},
		{name: "fraction", old: `"memory": 1048576`, with: `"memory": 1.5`},
	} {
		bad := bytes.Replace(good, []byte(tc.old), []byte(tc.with), 1)
		if bytes.Equal(bad, good) {
			t.Fatalf("%s: %s is not in the manifest:\n%s", tc.name, tc.old, good)
		}
		_, err := catalog.ParseManifest(bad)
		if tc.requires && !errors.As(err, &req) || !tc.requires && !errors.Is(err, catalog.ErrFormat) {
			t.Errorf("%s: ParseManifest() = %v", tc.name, err)
		}
	}
	for name, change := range map[string]func(*catalog.Manifest){
		"no root files":            func(m *catalog.Manifest) { m.Root.Files = nil },
		"too many root files":      func(m *catalog.Manifest) { m.Root.Files = make([]catalog.RootFile, 17) },
		"root file of size 0":      func(m *catalog.Manifest) { m.Root.Files[0].Size = 0 },
		"no initrd":                func(m *catalog.Manifest) { m.Initrd.Size = 0 },
		"negative initrd":          func(m *catalog.Manifest) { m.Initrd.Size = -1 },
		"no root and a root":       func(m *catalog.Manifest) { m.Requires = []string{catalog.FeatureNoRoot} },
		"hypervisor, not required": func(m *catalog.Manifest) { m.Hypervisor = &catalog.Hypervisor{Blob: m.Initrd} },
		"hypervisor, not there":    func(m *catalog.Manifest) { m.Requires = []string{catalog.FeatureHypervisor} },
		"empty hypervisor":         func(m *catalog.Manifest) { hypervised(m); m.Hypervisor.Size = 0 },
		"empty module":             func(m *catalog.Manifest) { hypervised(m); m.Hypervisor.Modules[0].Size = 0 },
		"many modules": func(m *catalog.Manifest) {
			hypervised(m)
			m.Hypervisor.Modules = slices.Repeat(m.Hypervisor.Modules, 17)
		},
		"module's command line": func(m *catalog.Manifest) { hypervised(m); m.Hypervisor.Modules[0].Cmdline = "\x1b" },
		"name of a driver":      func(m *catalog.Manifest) { m.MissingDrivers[0] = "a b" },
		"too many drivers":      func(m *catalog.Manifest) { m.MissingDrivers = slices.Repeat([]string{"x"}, 257) },
	} {
		m := manifest()
		change(m)
		if _, err := m.Marshal(); !errors.Is(err, catalog.ErrFormat) {
			t.Errorf("%s: Marshal() = %v; want ErrFormat", name, err)
		}
	}
}

// hypervised makes m an image that a hypervisor starts.
func hypervised(m *catalog.Manifest) {
	m.Requires = []string{catalog.FeatureHypervisor}
	m.Hypervisor = &catalog.Hypervisor{Blob: m.Initrd, Cmdline: "dom0_mem=1G", Modules: []catalog.Module{{Blob: m.Initrd, Cmdline: "microcode"}}}
}

func TestManifestsWithFeatures(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*catalog.Manifest)
		files  int
		noRoot bool
	}{
		"an image":          {func(*catalog.Manifest) {}, 2, false},
		"a hypervisor":      {hypervised, 4, false},
		"kernel and initrd": {func(m *catalog.Manifest) { m.Requires, m.Root = []string{catalog.FeatureNoRoot}, catalog.Root{} }, 2, true},
		"a kernel alone": {func(m *catalog.Manifest) {
			m.Requires, m.Root, m.Initrd = []string{catalog.FeatureNoRoot}, catalog.Root{}, digest.Blob{}
		}, 1, true},
		"a hypervisor without a root": {func(m *catalog.Manifest) { hypervised(m); m.Root = catalog.Root{}; m.Requires = catalog.Features() }, 4, true},
	} {
		m := manifest()
		tc.change(m)
		data, err := m.Marshal()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := catalog.ParseManifest(data)
		if err != nil || !cmp.Equal(got, m) {
			t.Errorf("%s: ParseManifest() = %+v, %v; want what was marshalled", name, got, err)
			continue
		}
		if len(got.Files()) != tc.files || got.NoRoot() != tc.noRoot {
			t.Errorf("%s: %d files, NoRoot() = %v; want %d, %v", name, len(got.Files()), got.NoRoot(), tc.files, tc.noRoot)
		}
		if bytes.Contains(data, []byte(`"root"`)) == tc.noRoot {
			t.Errorf("%s: %s", name, data)
		}
	}
}

func TestCombine(t *testing.T) {
	alone := func(m *catalog.Manifest) {
		m.Requires, m.Root, m.Needs.Memory = []string{catalog.FeatureNoRoot}, catalog.Root{}, 1<<30
	}
	repo := catalogtest.New(t, catalogtest.Options{})
	targets := make(map[string][]byte)
	for name, change := range map[string]func(*catalog.Manifest){
		"rooted": func(*catalog.Manifest) {}, "alone": alone, "xen": hypervised,
		"kernel": func(m *catalog.Manifest) { alone(m); m.Initrd = digest.Blob{} },
		"low":    func(m *catalog.Manifest) { alone(m); m.Requires = append(m.Requires, catalog.FeatureKexecLoad) },
	} {
		m := manifest()
		change(m)
		m.Name = name
		data, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		targets[catalog.ManifestName(name, m.Version, m.Arch)] = data
	}
	repo.Publish(t, targets)
	c := repo.Open(t)
	image := func(name string) *catalog.Image {
		if name == "" {
			return nil
		}
		m := manifest()
		img, err := c.Image(t.Context(), catalog.ManifestName(name, m.Version, m.Arch))
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	for _, tt := range []struct {
		kernel, initrd, err string
		memory              int64
	}{
		{"rooted", "", "", 0}, {"rooted", "alone", "", 1 << 30}, {"alone", "", "", 1 << 30}, {"kernel", "alone", "", 1 << 30}, {"low", "alone", "", 1 << 30},
		{"alone", "rooted", "mounts the image's root", 0}, {"alone", "kernel", "has no initrd", 0}, {"xen", "", "below a hypervisor", 0},
	} {
		got, err := catalog.Combine(image(tt.kernel), image(tt.initrd))
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("Combine(%s, %s) = %v; want %q", tt.kernel, tt.initrd, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("Combine(%s, %s): %v", tt.kernel, tt.initrd, err)
			continue
		}
		m := got.Manifest()
		if low := slices.Contains(m.Requires, catalog.FeatureKexecLoad); low != (tt.kernel == "low") {
			t.Errorf("Combine(%s, %s) requires %v", tt.kernel, tt.initrd, m.Requires)
		}
		want := digest.Blob{}
		if tt.initrd != "" {
			want = image(tt.initrd).Manifest().Initrd
		}
		if m.Initrd != want || m.Kernel != image(tt.kernel).Manifest().Kernel || !m.NoRoot() || m.Cmdline != "" || m.Needs.Memory != tt.memory {
			t.Errorf("Combine(%s, %s) = %+v", tt.kernel, tt.initrd, m)
		}
	}

	// Any target can be read as it is, up to a size.
	name := catalog.ManifestName("alone", manifest().Version, manifest().Arch)
	if got, err := c.File(t.Context(), name, int64(len(targets[name]))); err != nil || !bytes.Equal(got, targets[name]) {
		t.Errorf("File = %d bytes, %v; want the manifest", len(got), err)
	}
	if _, err := c.File(t.Context(), name, int64(len(targets[name]))-1); !errors.Is(err, catalog.ErrFormat) {
		t.Errorf("File with a smaller limit = %v; want ErrFormat", err)
	}
	if _, err := c.File(t.Context(), "scripts/none", 10); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("File of none = %v; want ErrNotFound", err)
	}
}

// Key ids are those of TUF, so that other tools know the keys, too.
func TestKeyID(t *testing.T) {
	const canonical = `{"keytype":"ed25519","keyval":{"public":"8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"},"scheme":"ed25519"}`
	if got, want := publish.KeyID(catalogtest.Key(1).Public()), hash(canonical); got != want {
		t.Errorf("KeyID() = %s; want %s", got, want)
	}
}

func FuzzParseMenu(f *testing.F) {
	f.Add([]byte(menuHead + `"default":"a","entries":[{"id":"a","title":"A","action":"reboot"}]}`))
	f.Add([]byte(menuHead + `"entries":[{"id":"a","title":"A","entries":[{"id":"b","title":"B","image":"x.json"}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := catalog.ParseMenu(data)
		if err != nil {
			return
		}
		b, err := m.Marshal()
		if err != nil {
			t.Fatalf("Marshal() of what ParseMenu accepts: %v", err)
		}
		if strings.ContainsAny(m.Title, "\x1b\x00\r") {
			t.Errorf("title %q", m.Title)
		}
		if _, err := catalog.ParseMenu(b); err != nil {
			t.Errorf("ParseMenu() of what Marshal returns: %v", err)
		}
	})
}

func FuzzParseManifest(f *testing.F) {
	good, err := manifest().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"format":"inetboot-manifest/1"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := catalog.ParseManifest(data)
		if err != nil {
			return
		}
		if _, err := m.Marshal(); err != nil {
			t.Errorf("Marshal() of what ParseManifest accepts: %v", err)
		}
	})
}

const mirrorsHead = `{"format":"inetboot-mirrors/1","mirrors":[`

func TestParseMirrors(t *testing.T) {
	l, err := catalog.ParseMirrors([]byte(mirrorsHead + `{"url":"http://a/x/","location":"Graz","new":1},{"url":"https://b"}],"future":[]}`))
	want := &catalog.MirrorList{Format: catalog.MirrorsFormat, Mirrors: []catalog.Mirror{{URL: "http://a/x/", Location: "Graz"}, {URL: "https://b"}}}
	if err != nil || !cmp.Equal(l, want) {
		t.Errorf("ParseMirrors() = %+v, %v; want %+v", l, err, want)
	}
	b, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := catalog.ParseMirrors(b); err != nil || !cmp.Equal(again, want) {
		t.Errorf("list of mirrors does not survive Marshal: %+v, %v", again, err)
	}
}

func TestParseMirrorsRefuses(t *testing.T) {
	var many strings.Builder
	for i := range catalog.MaxMirrors + 1 {
		fmt.Fprintf(&many, `,{"url":"http://m%d"}`, i)
	}
	for name, doc := range map[string]string{
		"no JSON":              `x`,
		"another format":       `{"format":"inetboot-mirrors/2","mirrors":[]}`,
		"FTP":                  mirrorsHead + `{"url":"ftp://a"}]}`,
		"no URL":               mirrorsHead + `{"location":"x"}]}`,
		"query":                mirrorsHead + `{"url":"http://a/?x"}]}`,
		"twice":                mirrorsHead + `{"url":"http://a"},{"url":"http://a/"}]}`,
		"member twice":         mirrorsHead + `{"url":"http://a","URL":"http://b"}]}`,
		"escape in the URL":    mirrorsHead + `{"url":"http://a/\u009b"}]}`,
		"escape in a location": mirrorsHead + `{"url":"http://a","location":"\u001b[2J"}]}`,
		"long URL":             mirrorsHead + `{"url":"http://a/` + strings.Repeat("x", 500) + `"}]}`,
		"too many":             mirrorsHead + many.String()[1:] + `]}`,
		"too large":            mirrorsHead + `]}` + strings.Repeat(" ", catalog.MaxMirrorsSize),
	} {
		if _, err := catalog.ParseMirrors([]byte(doc)); !errors.Is(err, catalog.ErrFormat) {
			t.Errorf("%s: ParseMirrors() = %v; want ErrFormat", name, err)
		}
	}
	var req *strictjson.RequiresError
	if _, err := catalog.ParseMirrors([]byte(`{"format":"inetboot-mirrors/1","requires":["x"],"mirrors":[]}`)); !errors.As(err, &req) {
		t.Errorf("unknown requirement: ParseMirrors() = %v; want a RequiresError", err)
	}
}

func FuzzParseMirrors(f *testing.F) {
	f.Add([]byte(mirrorsHead + `{"url":"http://a/x/","location":"Graz"},{"url":"https://b"}]}`))
	f.Add([]byte(mirrorsHead + `]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := catalog.ParseMirrors(data)
		if err != nil {
			return
		}
		if len(l.Mirrors) > catalog.MaxMirrors {
			t.Errorf("ParseMirrors() accepts %d mirrors", len(l.Mirrors))
		}
		for _, m := range l.Mirrors {
			if !strings.HasPrefix(strings.ToLower(m.URL), "http") || strings.ContainsAny(m.URL+m.Location, "\x1b\x00\r") {
				t.Errorf("ParseMirrors() accepts %q", m)
			}
		}
		if b, err := l.Marshal(); err == nil {
			if _, err := catalog.ParseMirrors(b); err != nil {
				t.Errorf("ParseMirrors() of what Marshal returns: %v", err)
			}
		}
	})
}
