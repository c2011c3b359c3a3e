package opener_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/opener"
)

// TestMachineSudo reads a machine as users who are not root there: one whom
// sudo lets do everything, one whom it lets run tar, and one whom it asks for a
// password.
func TestMachineSudo(t *testing.T) {
	for _, p := range []string{"sudo", "visudo"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
	dir := machineRoot(t)
	etc := filepath.Join(t.TempDir(), "etc")
	// The test's folder is the user's way to authorized_keys.
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(dir, "etc/shadow")
	if err := os.WriteFile(secret, []byte("only root reads it"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "boot"), 0o700); err != nil {
		t.Fatal(err)
	}
	setup := []string{"cp -a /etc " + etc}
	for i, u := range []struct{ name, may string }{{"inetboot-all", "NOPASSWD: ALL"}, {"inetboot-tar", "NOPASSWD: /usr/bin/tar"}, {"inetboot-asked", "ALL"}} {
		id := []string{"64001", "64002", "64003"}[i]
		setup = append(setup,
			"echo '"+u.name+":x:"+id+":"+id+"::/:/bin/sh' >>"+etc+"/passwd",
			"echo '"+u.name+":*:19000:0:99999:7:::' >>"+etc+"/shadow",
			"echo '"+u.name+":x:"+id+":' >>"+etc+"/group",
			"echo '"+u.name+" ALL=(root) "+u.may+"' >>"+etc+"/sudoers.d/inetboot")
	}
	server := sshServer(t, append(setup,
		"chmod 440 "+etc+"/sudoers.d/inetboot", "visudo -cf "+etc+"/sudoers.d/inetboot >&2",
		"mount --bind "+etc+" /etc",
		"mount -t tmpfs -o mode=700 none "+dir+"/boot", "echo kernel >"+dir+"/boot/vmlinuz")...)
	at := func(user string) string {
		return "ssh://" + user + server[strings.IndexByte(server, '@'):] + dir
	}
	for _, user := range []string{"inetboot-all", "inetboot-tar"} {
		tree, err := opener.Open(context.Background(), at(user), opener.Options{Options: source.Options{TempDir: t.TempDir()}})
		if err != nil {
			t.Errorf("%s: %v", user, err)
			continue
		}
		e := tree.Lookup("etc/shadow")
		if e == nil || e.UID != 0 || e.Mode&0o7777 != 0o600 {
			t.Errorf("%s: /etc/shadow is %+v; want root's, mode 0600", user, e)
		} else if got, err := tree.ReadEntry(e, 100); err != nil || string(got) != "only root reads it" {
			t.Errorf("%s: /etc/shadow = %q, %v", user, got, err)
		}
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err := opener.Open(context.Background(), at("inetboot-asked"), opener.Options{Options: source.Options{TempDir: t.TempDir()}})
	if !errors.Is(err, source.ErrUnreadable) || !strings.Contains(err.Error(), "NOPASSWD") || !strings.Contains(err.Error(), "Permission denied") {
		t.Errorf("a user whom sudo asks for a password: %v; want what tar says and what to do", err)
	}
}
