package command_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/inetboot/inetboot/imagetool/command"
	"github.com/inetboot/inetboot/imagetool/testtree"
	"github.com/inetboot/inetboot/internal/site"
)

func TestMain(m *testing.M) { os.Exit(testtree.Main(m)) }

// tool runs imagetool with a configuration of its own.
type tool struct {
	t      *testing.T
	config string
}

func newTool(t *testing.T) *tool {
	for _, v := range []string{"INETBOOT_TOKEN", "INETBOOT_PASSPHRASE", "INETBOOT_NEW_PASSPHRASE", "SSH_AUTH_SOCK"} {
		t.Setenv(v, "")
	}
	return &tool{t: t, config: filepath.Join(t.TempDir(), "conf", "imagetool.json")}
}

func (c *tool) run(want int, args ...string) (stdout, stderr string) {
	c.t.Helper()
	var out, err bytes.Buffer
	if got := command.Run(context.Background(), append(args, "--config", c.config), &out, &err); got != want {
		c.t.Errorf("imagetool %s: exit code %d; want %d\n%s%s", strings.Join(args, " "), got, want, out.String(), err.String())
	}
	return out.String(), err.String()
}

func TestWholeStory(t *testing.T) {
	c := newTool(t)
	store, src, program := filepath.Join(t.TempDir(), "store"), testtree.New(t, 1), testtree.Program(t)

	out, _ := c.run(command.ExitOK, "init", "--no-passphrase", "--to", store, "--title", "Mine")
	if !strings.Contains(out, "imagetool push") {
		t.Errorf("init does not say what is next: %q", out)
	}
	key := filepath.Join(filepath.Dir(c.config), "keys", "targets.key")
	if fi, err := os.Stat(key); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v; want mode 0600", fi, err)
	}
	c.run(command.ExitExists, "init", "--no-passphrase", "--to", store)

	out, errs := c.run(command.ExitOK, "push", src, "--name", "test", "--version", "1", "--blockfs", program)
	if !strings.Contains(out, "menu entry test-1") || !strings.Contains(errs, "lacks network drivers") {
		t.Errorf("push says %q and %q", out, errs)
	}
	out, _ = c.run(command.ExitOK, "push", src, "--name", "test", "--version", "1", "--blockfs", program)
	if !strings.Contains(out, "already there") {
		t.Errorf("second push says %q", out)
	}
	testtree.Write(t, src, "etc/more", []byte("more"))
	c.run(command.ExitExists, "push", src, "--name", "test", "--version", "1", "--blockfs", program)

	out, _ = c.run(command.ExitOK, "ls", "--json")
	var list struct {
		Catalog uint64
		Default string
		Images  []struct {
			Name, Version, Arch, Title string
			Default                    bool
			Blocks                     int
			Plain                      int64 `json:"bytes_plain"`
		}
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	if list.Catalog != 2 || list.Default != "test-1" || len(list.Images) != 1 || !list.Images[0].Default || list.Images[0].Blocks == 0 ||
		list.Images[0].Plain == 0 || list.Images[0].Title != "Test GNU/Linux 12 (testing)" {
		t.Errorf("ls --json = %+v", list)
	}
	if out, _ = c.run(command.ExitOK, "ls"); !strings.Contains(out, "*  test") || !strings.Contains(out, "catalog version 2") {
		t.Errorf("ls = %q", out)
	}

	if out, _ = c.run(command.ExitOK, "refresh", "--expires", "1h"); !strings.Contains(out, "version 3") {
		t.Errorf("refresh = %q", out)
	}
	c.run(command.ExitOK, "refresh") // to count for a year
	if out, _ = c.run(command.ExitOK, "refresh", "--warn", "8760h"); !strings.Contains(out, "version 5") || strings.Count(out, "signed now") != 3 {
		t.Errorf("refresh of what ends within --warn = %q", out)
	}
	if out, _ = c.run(command.ExitOK, "refresh"); !strings.Contains(out, "version 5") {
		t.Errorf("refresh of what is not due = %q", out)
	}
}

func TestExitCodes(t *testing.T) {
	c := newTool(t)
	store, program := filepath.Join(t.TempDir(), "store"), testtree.Program(t)
	c.run(command.ExitUsage, "push", ".", "--name", "x", "--version", "1")
	c.run(command.ExitUsage, "init")
	c.run(command.ExitUsage, "nonsense", "--flag")
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", store)
	c.run(command.ExitUsage, "push")
	c.run(command.ExitUsage, "push", ".", "--version", "1")
	c.run(command.ExitUsage, "push", ".", "--name", "../x", "--version", "1")
	c.run(command.ExitUsage, "push", ".", "--name", "x", "--version", "1", "--level", "23")
	c.run(command.ExitSource, "push", "/no/such", "--name", "x", "--version", "1", "--blockfs", program)
	_, errs := c.run(command.ExitSource, "push", t.TempDir(), "--name", "x", "--version", "1", "--blockfs", program)
	if !strings.Contains(errs, "/lib/modules") {
		t.Errorf("a source without kernel: %q does not say where it was looked for", errs)
	}
	src := testtree.New(t, 1)
	c.run(command.ExitSource, "push", src, "--name", "x", "--version", "1", "--blockfs", "/bin/sh")
	c.run(command.ExitStore, "push", src, "--name", "x", "--version", "1", "--blockfs", program, "--to", t.TempDir())
	c.run(command.ExitKey, "push", src, "--name", "x", "--version", "1", "--blockfs", program, "--keys", t.TempDir())
	other := newTool(t)
	other.run(command.ExitOK, "init", "--no-passphrase", "--to", filepath.Join(t.TempDir(), "other"))
	other.run(command.ExitTrust, "push", src, "--name", "x", "--version", "1", "--blockfs", program, "--to", store)
	other.run(command.ExitTrust, "ls", "--to", store)
	key := filepath.Join(filepath.Dir(c.config), "keys", "targets.key")
	if err := os.Chmod(key, 0o640); err != nil {
		t.Fatal(err)
	}
	c.run(command.ExitKey, "refresh", "--all")
}

func TestServerToken(t *testing.T) {
	url, tokenFile, _ := testtree.Server(t)
	c := newTool(t)
	c.run(command.ExitKey, "init", "--no-passphrase", "--to", url, "--token", "wrong")
	if _, err := os.Stat(filepath.Join(filepath.Dir(c.config), "keys", "targets.key")); err == nil {
		t.Error("a key is left behind by an init that failed")
	}
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", url, "--token-file", tokenFile)
	c.run(command.ExitOK, "push", testtree.New(t, 1), "--name", "x", "--version", "1", "--blockfs", testtree.Program(t))
	c.run(command.ExitOK, "ls")
	c.run(command.ExitKey, "refresh", "--all", "--token", "wrong")
}

// Unprivileged publishers may meet files that they cannot read.
func TestUnreadableFile(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("becoming another user needs root")
	}
	dir := t.TempDir()
	for p := dir; p != "/"; p = filepath.Dir(p) {
		if fi, err := os.Stat(p); err == nil && fi.Mode().Perm()&1 == 0 && strings.HasPrefix(p, os.TempDir()+"/") {
			if err := os.Chmod(p, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	src := filepath.Join(dir, "src")
	testtree.Fill(t, src, 1)
	secret := filepath.Join(src, "etc/secret")
	if err := os.WriteFile(secret, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	program := testtree.Program(t)
	copyFile(t, program, filepath.Join(dir, "blockfs"))
	bin := filepath.Join(dir, "imagetool")
	build(t, bin)
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(home, 0o777); err != nil {
		t.Fatal(err)
	}
	as := func(args ...string) (string, int) {
		cmd := exec.Command(bin, append(args, "--config", home+"/c.json")...)
		cmd.Dir = home
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, _ := cmd.CombinedOutput()
		return string(out), cmd.ProcessState.ExitCode()
	}
	if out, code := as("init", "--no-passphrase", "--to", home+"/store"); code != 0 {
		t.Fatalf("init: %d: %s", code, out)
	}
	out, code := as("push", src, "--name", "x", "--version", "1")
	if code != command.ExitSource || !strings.Contains(out, "etc/secret") {
		t.Errorf("push with an unreadable file: exit code %d, %q; want %d and the file's name", code, out, command.ExitSource)
	}
}

func build(t *testing.T, out string) {
	t.Helper()
	if b, err := exec.Command("go", "build", "-o", out, "github.com/inetboot/inetboot/imagetool").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, b)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

// A push that is killed at any moment leaves a store that can be read, and
// that the next push completes.
func TestKilledPush(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "imagetool")
	build(t, bin)
	program, src := testtree.Program(t), testtree.New(t, 1)
	c := newTool(t)
	store := filepath.Join(dir, "store")
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", store)
	killed := 0
	for _, ms := range []int{5, 15, 30, 50, 75, 100, 130, 170} {
		cmd := exec.Command(bin, "push", src, "--name", "test", "--version", "1", "--blockfs", program, "--config", c.config)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(ms) * time.Millisecond)
		_ = cmd.Process.Kill()
		if err := cmd.Wait(); err != nil {
			killed++
		}
		c.run(command.ExitOK, "ls")
	}
	if killed == 0 {
		t.Error("no push was killed in time")
	}
	cmd := exec.Command(bin, "push", src, "--name", "test", "--version", "1", "--blockfs", program, "--config", c.config)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("push after %d kills: %v\n%s", killed, err, out)
	}
	if out, _ := c.run(command.ExitOK, "ls"); !strings.Contains(out, "test-") && !strings.Contains(out, "1 image ") {
		t.Errorf("ls = %q", out)
	}
}

// Ctrl-C ends a push at once, with its own exit code and no temporary files.
func TestInterrupt(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "imagetool")
	build(t, bin)
	program, src := testtree.Program(t), testtree.New(t, 1)
	big := make([]byte, 1<<20)
	for i := range 200 {
		for j := range big {
			big[j] = byte(j*i) ^ byte(j>>8)
		}
		testtree.Write(t, src, filepath.Join("var/big", string(rune('a'+i%26))+string(rune('a'+i/26))), big)
	}
	c := newTool(t)
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", filepath.Join(dir, "store"))
	tmp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "push", src, "--name", "test", "--version", "1", "--blockfs", program, "--tmp", tmp, "--level", "19", "--config", c.config)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It has begun when it says that it pushes.
	var errs bytes.Buffer
	lines := bufio.NewReader(io.TeeReader(stderr, &errs))
	for {
		line, err := lines.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "push: ") {
			break
		}
	}
	_ = cmd.Process.Signal(os.Interrupt)
	start := time.Now()
	_, _ = io.Copy(io.Discard, lines)
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != command.ExitInterrupted || time.Since(start) > 30*time.Second {
		t.Errorf("interrupted push: exit code %d after %v, %s; want %d at once", code, time.Since(start), errs.String(), command.ExitInterrupted)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
		t.Errorf("temporary files left behind: %v, %v", left, err)
	}
}

func TestMedia(t *testing.T) {
	c := newTool(t)
	dir := t.TempDir()
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", filepath.Join(dir, "store"))
	iso := filepath.Join(dir, "in.iso")
	image := append(bytes.Repeat([]byte("iso"), 500_000), site.EmptySlot()...)
	image = append(image, bytes.Repeat([]byte("end"), 1000)...)
	if err := os.WriteFile(iso, image, 0o644); err != nil {
		t.Fatal(err)
	}
	out, bare := filepath.Join(dir, "out.iso"), filepath.Join(dir, "site.cpio")
	c.run(command.ExitUsage, "media", "--iso", iso, "-o", out) // the store is a directory: no URL
	c.run(command.ExitUsage, "media", "--iso", iso, "--url", "http://x/")
	c.run(command.ExitUsage, "media", "--iso", iso, "-o", out, "--url", "ftp://x/")
	c.run(command.ExitOther, "media", "--iso", iso, "-o", iso, "--url", "http://x/")
	c.run(command.ExitOK, "media", "--iso", iso, "-o", out, "--cpio", bare, "--url", "http://a.example/", "--url", "https://b.example/x", "--entry", "debian-12", "--timeout", "0",
		"--ip", "192.0.2.5::192.0.2.1:24::eth0:off:192.0.2.53", "--ip", "[2001:db8::5]", "--vlan", "5", "--mtu", "1400", "--ntp", "time.example")
	for _, wrong := range [][]string{{"--ip", "perhaps"}, {"--vlan", "4095"}, {"--mtu", "10"}, {"--ntp", "-"}} {
		c.run(command.ExitUsage, append([]string{"media", "--cpio", bare + "2", "--url", "http://a.example/"}, wrong...)...)
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	slot, err := os.ReadFile(bare)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Replace(image, site.EmptySlot(), slot, 1)
	if len(slot) != site.SlotSize || !bytes.Equal(got, want) {
		t.Error("the medium is not the original with the archive in its slot")
	}
	for _, s := range []string{`"http://a.example/"`, `"https://b.example/x"`, `"entry": "debian-12"`, `"timeout": 0`, `"keytype":"ed25519"`, `"192.0.2.5/24"`, `"2001:db8::5/64"`, `"192.0.2.53"`, `"vlan": 5`, `"mtu": 1400`, `"link": "eth0"`, `"nodhcp": true`, `"time.example"`} {
		if !bytes.Contains(slot, []byte(s)) {
			t.Errorf("the archive lacks %s", s)
		}
	}
	if again, err := os.ReadFile(iso); err != nil || !bytes.Equal(again, image) {
		t.Error("the original was changed")
	}
	// A personal medium can be made from a personal medium.
	c.run(command.ExitOK, "media", "--iso", out, "-o", out+"2", "--url", "http://c.example/")
	if err := os.WriteFile(iso, image[:500_000], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, errs := c.run(command.ExitOther, "media", "--iso", iso, "-o", out, "--url", "http://x/"); !strings.Contains(errs, "slot") {
		t.Errorf("a file without slot: %q", errs)
	}
}
