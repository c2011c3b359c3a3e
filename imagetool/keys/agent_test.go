package keys_test

import (
	"bufio"
	"context"
	"crypto"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/internal/keyfile"
)

// sshAgent starts a real ssh-agent and returns its socket.
func sshAgent(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("ssh-agent")
	if err != nil {
		t.Fatal("ssh-agent is needed (Debian package openssh-client)")
	}
	dir, err := os.MkdirTemp("", "agent") // shorter than t.TempDir: a socket's name has at most 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	cmd := exec.Command(program, "-D", "-a", socket)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	})
	// The socket is there when the agent says where it is.
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("ssh-agent says nothing: %v", err)
	}
	return socket
}

func sshAdd(t *testing.T, socket string, env []string, args ...string) {
	t.Helper()
	cmd := exec.Command("ssh-add", args...)
	cmd.Env = append(append(os.Environ(), "SSH_AUTH_SOCK="+socket), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ssh-add %v: %v\n%s", args, err, out)
	}
}

// askpass is a program that ssh-add gets a passphrase from.
func askpass(t *testing.T, passphrase string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "askpass")
	if err := os.WriteFile(file, []byte("#!/bin/sh\necho '"+passphrase+"'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return []string{"SSH_ASKPASS=" + file, "SSH_ASKPASS_REQUIRE=force"}
}

func TestAgent(t *testing.T) {
	ctx, dir, socket := context.Background(), t.TempDir(), sshAgent(t)
	maker := keys.OpenRing(dir, keys.Options{Ask: fixed("a passphrase")})
	k, err := keys.Generate(ctx, maker, false, "targets")
	if err != nil {
		t.Fatal(err)
	}
	id := k.Keys()[0].ID()
	maker.Close()

	// Without the key in the agent the passphrase is needed.
	file := filepath.Join(dir, "targets.key")
	o := keys.Options{Agent: keys.NewAgent(socket)}
	if got, err := keys.Load(ctx, keys.OpenRing(dir, o)); err != nil {
		t.Fatal(err)
	} else if _, err := got.Signers()[0].Sign(ctx, []byte("x")); !errors.Is(err, keyfile.ErrEncrypted) {
		t.Fatalf("Sign() with an encrypted key without passphrase = %v", err)
	}
	// A key of another kind does not confuse.
	rsa := filepath.Join(t.TempDir(), "rsa")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", rsa).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	sshAdd(t, socket, nil, "-q", rsa)
	sshAdd(t, socket, askpass(t, "a passphrase"), "-q", file)
	ring := keys.OpenRing(dir, o)
	got, err := keys.Load(ctx, ring)
	if err != nil {
		t.Fatal(err)
	}
	verify(t, got.Signers()[0])
	if len(got.Keys()) != 1 || got.Keys()[0].ID() != id {
		t.Errorf("Load() returns keys %v; want %s alone", got.Keys(), id)
	}
	key, err := ring.Signer(ctx, got.Keys()[0].Public)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := key.Sign(nil, make([]byte, 64), crypto.SHA512); !errors.Is(err, keys.ErrAgent) {
		t.Errorf("Sign() of a hash = %v; want ErrAgent", err)
	}
	found, err := ring.Locations(ctx)
	if err != nil || len(found) != 2 || found[0].File == nil || found[1].File != nil || !found[1].Public.Equal(found[0].Public) {
		t.Errorf("Locations() = %+v, %v; want the file and the agent", found, err)
	}

	// The file may be on another machine.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got, err = keys.Load(ctx, keys.OpenRing(dir, o)); err != nil {
		t.Fatal(err)
	}
	verify(t, got.Signers()[0])

	// An agent that was locked after the key was found.
	sshAdd(t, socket, askpass(t, "lock"), "-q", "-x")
	if _, err := got.Signers()[0].Sign(ctx, []byte("x")); !errors.Is(err, keys.ErrNoKey) {
		t.Errorf("Sign() with a locked agent = %v; want ErrNoKey", err)
	}
	if _, err := keys.Load(ctx, keys.OpenRing(dir, o)); !errors.Is(err, keys.ErrNoKey) {
		t.Errorf("Load() with a locked agent = %v; want ErrNoKey", err)
	}
	sshAdd(t, socket, askpass(t, "lock"), "-q", "-X")
	verify(t, got.Signers()[0])
}

// With ssh-add -c the agent waits for a person; Ctrl-C does not wait for it.
func TestAgentWaits(t *testing.T) {
	dir := t.TempDir()
	generate(t, dir)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// An agent's askpass that never ends: it tells that it was asked, by a
	// pipe, and waits for its own pipe to be closed.
	asked, release := filepath.Join(dir, "asked"), filepath.Join(dir, "release")
	for _, p := range []string{asked, release} {
		if out, err := exec.Command("mkfifo", p).CombinedOutput(); err != nil {
			t.Fatalf("mkfifo: %v\n%s", err, out)
		}
	}
	program := filepath.Join(dir, "askpass")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho >'"+asked+"'\nread x <'"+release+"'\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSH_ASKPASS", program)
	t.Setenv("SSH_ASKPASS_REQUIRE", "force")
	t.Setenv("DISPLAY", "none")
	socket := sshAgent(t)
	sshAdd(t, socket, nil, "-q", "-c", filepath.Join(dir, "targets.key"))
	got, err := keys.Load(ctx, keys.OpenRing(dir, keys.Options{Agent: keys.NewAgent(socket)}))
	if err != nil {
		t.Fatal(err)
	}
	targets, _ := got.Key("targets")
	done := make(chan error, 1)
	go func() {
		_, err := got.Signers().For([]string{targets.ID()})[0].Sign(ctx, []byte("x"))
		done <- err
	}()
	if _, err := os.ReadFile(asked); err != nil { // returns when the person is being asked
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Sign() = %v; want context.Canceled", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("Sign() goes on after its context ended")
	}
	if err := os.WriteFile(release, []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
}

// An agent that is gone is no obstacle where the file does.
func TestAgentGone(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	generate(t, dir)
	o := keys.Options{Agent: keys.NewAgent(filepath.Join(dir, "none"))}
	if _, err := keys.Load(ctx, keys.OpenRing(dir, o)); err != nil {
		t.Errorf("Load() without the agent = %v", err)
	}
	for _, name := range []string{"root.key", "targets.key"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := keys.Load(ctx, keys.OpenRing(dir, o)); !errors.Is(err, keys.ErrNoKey) || !strings.Contains(err.Error(), dir) {
		t.Errorf("Load() without agent and file = %v; want ErrNoKey, and where it was looked for", err)
	}
}
