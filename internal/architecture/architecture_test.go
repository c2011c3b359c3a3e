// Package architecture checks that imports go the way that
// docs/architecture.md says.
package architecture

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/inetboot/inetboot/"

// allowed says which folders at the top a folder's programs and libraries may
// import, besides itself. Tests are free.
func allowed() map[string][]string {
	return map[string][]string{
		"catalog":   {"internal"},
		"blockfs":   {"internal"},
		"preboot":   {"catalog", "internal"},
		"imagetool": {"catalog", "blockfs", "internal"},
		"server":    {"catalog", "blockfs", "internal"},
		"iso":       {"internal"},
	}
}

func TestImports(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := map[string]bool{}
	// What programs that run on the medium read has to be written the same way.
	forISO := []string{"site", "newc", "module"}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		folder := top(f[0])
		may, ok := allowed()[folder]
		if !ok {
			if folder != "internal" {
				t.Errorf("%s is in a folder that docs/architecture.md does not have", f[0])
			}
			continue
		}
		seen[folder] = true
		for _, imp := range f[1:] {
			if to := top(imp); to != "" && to != folder && !slices.Contains(may, to) {
				t.Errorf("%s imports %s; %s may import %v", f[0], imp, folder, may)
			}
		}
		for _, imp := range f[1:] {
			if name, ok := strings.CutPrefix(imp, module+"internal/"); ok && folder == "iso" && !slices.Contains(forISO, name) {
				t.Errorf("%s imports %s; of internal, iso may import %v", f[0], imp, forISO)
			}
			for _, harness := range []string{"vmtest", "testbed", "debianroot", "demo", "boottest", "bench", "faultdisk", "faulttest", "mirror/mirrortest", "s3test", "slowline", "udpline", "imagestest"} {
				if imp == module+"internal/"+harness {
					t.Errorf("%s imports %s, which is for tests and demonstrations", f[0], imp)
				}
			}
		}
	}
	if len(seen) != len(allowed()) {
		t.Errorf("only the folders %v were found", seen)
	}
}

// top returns the folder at the top of the module that a package lies in, ""
// for packages of other modules.
func top(pkg string) string {
	rest, ok := strings.CutPrefix(pkg, module)
	if !ok {
		return ""
	}
	folder, _, _ := strings.Cut(rest, "/")
	return folder
}
