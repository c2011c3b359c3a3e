package main

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/catalogtest"
	"github.com/inetboot/inetboot/internal/bootscript"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// alone publishes an image of a kernel and an initrd, without a root, with the
// next catalog.
func (p *publisher) alone(t *testing.T, name string, kernel, initrd []byte) {
	t.Helper()
	m := &catalog.Manifest{
		Format: catalog.ManifestFormat, Requires: []string{catalog.FeatureNoRoot}, Name: name, Version: "1", Arch: "amd64", Created: time.Unix(1.7e9, 0),
		Kernel: catalog.Kernel{Blob: digest.BlobOf(kernel), Release: "6.1.0-test"}, Initrd: digest.BlobOf(initrd), Cmdline: "not.used=1",
	}
	data, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	p.targets[catalog.ManifestName(name, "1", "amd64")] = data
	p.put(storepath.File(digest.Of(initrd)), initrd)
}

// Sessions with scripts, in a network of their own. Kernels are none, so that
// nothing starts: what a script does then is part of the tests.
func TestSessionOfAScript(t *testing.T) {
	server := os.Getenv(inNamespace)
	if server == "" {
		outside(t)
		return
	}
	p := &publisher{key: firstKey, url: "http://10.77.0.1:8080", files: map[string][]byte{}, gets: map[string]int{}, targets: map[string][]byte{}}
	srv := httptest.NewUnstartedServer(p)
	srv.Listener.Close()
	srv.Listener = listenIn(t, server, "10.77.0.1:8080")
	srv.Start()
	t.Cleanup(srv.Close)
	kernel := bytes.Repeat([]byte("no kernel "), 1000)
	p.alone(t, "tool", kernel, []byte("a tool"))
	p.alone(t, "extra", kernel, []byte("a second initrd"))
	p.targets[bootscript.Prefix+"lab"] = []byte(strings.Join([]string{
		"#!inetboot",
		"echo machine: ${arch} ${ip} ${link}${offline}.",
		"network 5 && echo the network is there",
		"boot nothing || echo no such entry",
		"boot more || echo a submenu",
		"boot tiny-1 added=${arch} || echo tiny-1 does not start",
		"kernel images/tool/1/amd64.json",
		"initrd images/tiny/1/amd64.json",
		"boot || echo an initrd with a root",
		"menu From the script",
		"item reboot Not a restart of this machine",
		"item parts \"A kernel and two initrds\"",
		"choose --default parts --timeout 86400 what",
		"echo chosen ${what}",
		"kernel images/tiny/1/amd64.json script.option=${what}",
		"initrd images/tool/1/amd64.json",
		"module images/extra/1/amd64.json",
		"boot || echo parts do not start",
		"poweroff || echo it stays on",
		"choose what",
		"echo not after Esc",
	}, "\n"))
	p.targets[bootscript.Prefix+"bad"] = []byte("#!inetboot\nshell\n")
	p.publish(t, 2, time.Now().Add(time.Hour), kernel, []byte("no initrd"), -1)
	waits := []byte("#!inetboot\necho waits\nsleep 3600 ||\necho not after its time\n")
	p.put("site/wait.txt", waits)

	run := func(t *testing.T, option string) (*session, *screenTerm, chan string) {
		t.Helper()
		return startSession(t, fmt.Sprintf("quiet inetboot.cache=none ip=10.77.0.7::10.77.0.1:24 inetboot.url=%s inetboot.key=%x %s", p.url, []byte(catalogtest.Key(firstKey).Public()), option))
	}

	t.Run("lab", func(t *testing.T) {
		s, v, ended := run(t, "iscript=lab")
		v.expect(t, "From the script", " >  2  A kernel and two initrds")
		v.press(t, "\x1b[A\r")
		v.expect(t, "From the script", " >  1  Not a restart of this machine")
		if id := <-ended; id != powerOffID {
			t.Errorf("the machine ends by %q; want %q", id, powerOffID)
		}
		v.press(t, "\x1b")
		v.expect(t, "Test menu", "inetboot: menu ready", " >  1  Tiny Linux 1")
		log := strings.Join(s.con.Lines(), "\n") + "\n"
		at := 0
		for _, want := range []string{
			"inetboot: script lab\n", "machine: amd64 10.77.0.7 eth0.\n", "the network is there\n", "no such entry\n", "a submenu\n",
			"inetboot: command line: image.option=1 entry.option=2 added=amd64 quiet inetboot.boot=" + s.id + "\n", "tiny-1 does not start\n", "an initrd with a root\n", "chosen reboot\n",
			"inetboot: command line: script.option=reboot ip=10.77.0.7::10.77.0.1:24 quiet\n", "parts do not start\n", "it stays on\n",
		} {
			n := strings.Index(log[at:], want)
			if n < 0 {
				t.Errorf("nothing says %q behind what comes before it", want)
				continue
			}
			at += n + len(want)
		}
		if strings.Contains(log, "not after Esc") {
			t.Error("the script goes on after Esc")
		}
		for _, initrd := range []string{"a tool", "a second initrd"} {
			p.mu.Lock()
			if p.gets["/"+storepath.File(digest.Of([]byte(initrd)))] == 0 {
				t.Errorf("%s has not been downloaded", initrd)
			}
			p.mu.Unlock()
		}
	})
	for _, tt := range []struct{ name, option, want string }{
		{"malformed", "iscript=bad", `failed: script bad: line 2: the script is malformed: there is no command "shell"`},
		{"none", "iscript=none", "refused: script none: scripts/none is not in the catalog"},
		{"time", fmt.Sprintf("iscript=site/wait.txt,sha256=%s,timeout=1", digest.Of(waits)), "failed: script site/wait.txt: line 3: the script's time is over: 1s"},
		{"hash", fmt.Sprintf("iscript=site/wait.txt,sha256=%s", digest.Of(kernel)), "refused: script site/wait.txt: it has SHA-256 " + digest.Of(waits).Short()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, v, _ := run(t, tt.option)
			v.expect(t, "Test menu", " >  1  Tiny Linux 1")
			if log := strings.Join(s.con.Lines(), "\n"); !strings.Contains(log, "inetboot: "+tt.want) || strings.Contains(log, "not after its time") {
				t.Errorf("nothing says %q", tt.want)
			}
		})
	}
}
