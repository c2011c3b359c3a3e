package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/internal/module"
)

// quiet is how long no device may appear until those that are there count as
// found: behind a USB or SCSI controller they come one after the other.
const quiet = time.Second

// watch loads the modules of all devices, writes a byte to settled when they
// have theirs, and goes on with those that appear later.
func watch(ctx context.Context, settled *os.File) error {
	// First the socket: so no device falls between it and the walk.
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return fmt.Errorf("listen for devices: %w", err)
	}
	defer unix.Close(s)
	if err := unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20); err != nil {
		return fmt.Errorf("listen for devices: %w", err)
	}
	if err := unix.Bind(s, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return fmt.Errorf("listen for devices: %w", err)
	}
	mods, err := module.NewLoader("/")
	if err != nil {
		return err
	}
	loadAll(mods, "/sys/devices")
	buf := make([]byte, 64<<10)
	for ctx.Err() == nil {
		limit := -1
		if settled != nil {
			limit = int(quiet.Milliseconds())
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(s), Events: unix.POLLIN}}, limit)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("listen for devices: %w", err)
		}
		if n == 0 {
			if _, err := settled.Write([]byte{1}); err != nil && !errors.Is(err, unix.EPIPE) {
				return fmt.Errorf("say that the drivers are loaded: %w", err)
			}
			settled.Close()
			settled = nil
			continue
		}
		n, from, err := unix.Recvfrom(s, buf, 0)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			loadAll(mods, "/sys/devices") // messages were lost
			continue
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("listen for devices: %w", err)
		}
		if k, ok := from.(*unix.SockaddrNetlink); ok && k.Pid == 0 {
			if alias := newDevice(buf[:n]); alias != "" {
				load(mods, alias)
			}
		}
	}
	return ctx.Err()
}

// newDevice returns the modalias in a message of the kernel about a device that
// was added, "" if it is about something else: "add@/devices/…", and then
// NAME=value, each ended by a zero byte (lib/kobject_uevent.c).
func newDevice(message []byte) string {
	fields := bytes.Split(message, []byte{0})
	if !bytes.HasPrefix(fields[0], []byte("add@")) {
		return ""
	}
	for _, f := range fields[1:] {
		if v, ok := bytes.CutPrefix(f, []byte("MODALIAS=")); ok {
			return string(v)
		}
	}
	return ""
}

// loadAll loads the modules of all devices below a folder of sysfs.
func loadAll(mods *module.Loader, devices string) {
	for _, a := range modaliases(devices) {
		load(mods, a)
	}
}

// modaliases returns what the devices below a folder of sysfs ask for, each
// once. Devices may go while it looks.
func modaliases(devices string) []string {
	var out []string
	seen := map[string]bool{}
	_ = filepath.WalkDir(devices, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "modalias" {
			return nil
		}
		b, err := os.ReadFile(path)
		if a := strings.TrimSpace(string(b)); err == nil && a != "" && !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
		return nil
	})
	return out
}

// load loads the modules for a device. That one of several cannot be loaded is
// usual: for instance because it finds that the device is not its own.
func load(mods *module.Loader, alias string) {
	for _, name := range mods.Tree.Match(alias) {
		_ = mods.Load(name)
	}
}
