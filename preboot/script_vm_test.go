package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/bootscript"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// alone publishes an image of a kernel and an initrd without a root with the
// next catalog.
func (b *bed) alone(t *testing.T, name string, initrd []byte) {
	t.Helper()
	m := &catalog.Manifest{
		Format: catalog.ManifestFormat, Requires: []string{catalog.FeatureNoRoot}, Name: name, Version: "1", Arch: "amd64", Created: time.Unix(1.7e9, 0),
		Kernel: catalog.Kernel{Blob: digest.BlobOf(b.kernel), Release: "6.1.0-test"}, Initrd: digest.BlobOf(initrd), Cmdline: "not.used=1",
	}
	data, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	b.targets[catalog.ManifestName(name, "1", "amd64")] = data
	b.put(storepath.File(digest.Of(initrd)), initrd)
}

// script publishes a script with the next catalog.
func (b *bed) script(name string, lines ...string) {
	b.targets[bootscript.Prefix+name] = []byte("#!inetboot\n" + strings.Join(lines, "\n"))
}

// A script of the catalog shows a menu, goes on after failures, and puts
// together what it starts.
func TestScript(t *testing.T) {
	b := newBed(t, -1)
	b.targets = make(map[string][]byte)
	// The second initrd has what the first one's program shows.
	var second bytes.Buffer
	w := cpio.Newc.Writer(&second)
	for _, r := range []cpio.Record{cpio.Directory("inetboot", 0o755), cpio.StaticFile("inetboot/handoff.json", "of the second initrd", 0o644)} {
		if err := w.WriteRecord(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		t.Fatal(err)
	}
	b.alone(t, "tool", b.target)
	b.alone(t, "extra", second.Bytes())
	b.script("lab",
		"echo script: ${arch} ${ip} ${link} ${mac} ${offline}.",
		"iseq ${arch} amd64 || reboot",
		"network 5",
		"boot nothing || echo script: no such entry",
		"kernel images/tool/1/amd64.json",
		"initrd images/tiny/1/amd64.json",
		"boot || echo script: an initrd with a root",
		"menu From the script",
		"item reboot Not a restart of this machine",
		"item parts \"A kernel and two initrds\"",
		"choose --default parts --timeout 60 what",
		"echo script: chosen ${what}",
		"kernel images/tiny/1/amd64.json script.option=${what}",
		"initrd images/tool/1/amd64.json",
		"module images/extra/1/amd64.json",
		"boot",
	)
	b.publish(t, 3, time.Now().Add(time.Hour), b.kernel, b.target, -1)
	vm := b.start(t, b.site(), vmtest.Config{Name: "script", Append: "iscript=lab some.option"})
	vm.ExpectT(t, patience, `inetboot: script lab\n`)
	vm.ExpectT(t, patience, `script: amd64 10\.0\.2\.15 eth0 [0-9a-f:]{17} \.\n`)
	vm.ExpectT(t, patience, `script: no such entry\n`)
	vm.ExpectT(t, patience, `script: an initrd with a root\n`)
	vm.ExpectT(t, patience, ` From the script`)
	vm.ExpectT(t, patience, `> +2  A kernel and two initrds`)
	vm.SendT(t, "1\r")
	vm.ExpectT(t, patience, `script: chosen reboot\n`)
	vm.ExpectT(t, patience, `inetboot: leaving for script lab\n`)
	vm.ExpectT(t, patience, `target: started`)
	if got, want := vm.ExpectT(t, patience, `target: cmdline: (.*) <nil>\n`)[1], "script.option=reboot console=tty0 console=ttyS0,115200 some.option"; got != want {
		t.Errorf("target's command line = %q; want %q", got, want)
	}
	vm.ExpectT(t, patience, `target: handoff: of the second initrd <nil>\n`)
	vm.ExpectT(t, patience, `target: end`)
}

// A script that the catalog does not list counts by its hash alone; its time
// ends it, and the menu goes on.
func TestScriptByHash(t *testing.T) {
	b := newBed(t, 3)
	script := []byte("#!inetboot\necho script: waits\nsleep 3600 ||\necho script: goes on\n")
	b.put("site/wait.txt", script)
	sum := digest.Of(script)
	vm := b.start(t, b.site(), vmtest.Config{Name: "script-time", Append: fmt.Sprintf("iscript=site/wait.txt,sha256=%s,timeout=2", sum)})
	vm.ExpectT(t, patience, `script: waits\n`)
	vm.ExpectT(t, patience, `inetboot: failed: script site/wait\.txt: line 3: the script.s time is over: 2s\n`)
	vm.ExpectT(t, patience, `In \d s: Tiny Linux 1\.`)
	vm.ExpectT(t, patience, `inetboot: starting tiny-1\n`)
	if cmdline, _ := expectTarget(t, vm); strings.Contains(cmdline, "iscript") {
		t.Errorf("target's command line = %q; want it without iscript", cmdline)
	}
	b.put("site/wait.txt", append(script, '\n'))
	vm = b.start(t, b.site(), vmtest.Config{Name: "script-hash", Append: fmt.Sprintf("iscript=site/wait.txt,sha256=%s,timeout=2", sum)})
	vm.ExpectT(t, patience, `inetboot: refused: script site/wait\.txt: it has SHA-256 [0-9a-f]{12} there, but the catalog says [0-9a-f]{12}`)
	vm.ExpectT(t, patience, `In \d s: Tiny Linux 1\.`)
}
