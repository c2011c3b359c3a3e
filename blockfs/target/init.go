// Package target is /init of a target's initramfs: it takes the network over
// from preboot as it stands, starts the daemon that shows the root's blocks as
// files, mounts them, and becomes the image's own init. Its Shutdown is what
// systemd runs last, see shutdown.go.
//
// # Deadlocks
//
// After the root is mounted, nothing here may wait for it while the daemon
// waits for something here. The daemon is a process of its own for that reason,
// and starts from a file on /run, not on the root.
//
// # What the boot writes into the image's root
//
// All of it goes to the overlay, in memory:
//
//	/etc/resolv.conf   if the image has none, or an empty or dangling one, and
//	                   systemd-resolved does not manage it
//	/etc/hostname      if the image has none, or "localhost", and the network gave a name
//	/proc /sys /dev /run   folders, if the image lacks them
//	the image's init, if it is not systemd, and its libraries: as they are, see hold.go
//	what the settings say, see package apply
//
// and to /run, which the image's init finds mounted:
//
//	/run/initramfs/shutdown                    this program, for systemd-shutdown
//	/run/inetboot/settings.env                 the settings of the machine, if a server has any
//	/run/initramfs/inetboot/                   mounts, handoff.json, stats.json
//	/run/systemd/network/00-inetboot.network   keeps systemd-networkd from touching the link
//	/run/NetworkManager/conf.d/00-inetboot.conf  the same for NetworkManager
//	/run/systemd/network/00-inetboot.link      keeps udev from renaming the link
//	/run/network/ifstate, ifstate.LINK         keep ifupdown from taking it up or down
//	/run/sendsigs.omit.d/inetboot              keeps sysvinit from killing the daemon
package target

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/daemon"
	"github.com/inetboot/inetboot/blockfs/kmsg"
	"github.com/inetboot/inetboot/internal/bootsettings"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/module"
)

// Where things are. Everything below /run/initramfs is left alone by systemd's
// shutdown until it has left the root.
const (
	runDir     = "/run/initramfs"
	stateDir   = runDir + "/inetboot"
	filesDir   = stateDir + "/files" // the daemon's FUSE mount
	lowerDir   = stateDir + "/lower" // the read-only root
	upperDir   = stateDir + "/rw"    // tmpfs for the overlay
	newRoot    = "/sysroot"
	program    = runDir + "/shutdown"
	statsFile  = stateDir + "/stats.json"
	bootFile   = stateDir + "/boot.json" // report of the boot, once it is over
	rebootWait = 60 * time.Second
)

// StatusSocket is where the daemon answers `blockfs status`.
const StatusSocket = stateDir + "/status"

// Program is this program on the running machine.
const Program = stateDir + "/blockfs"

// failure is an error with what a person can do about it.
type failure struct {
	doing string
	err   error
	todo  string
}

func (f *failure) Error() string { return fmt.Sprintf("%s: %v", f.doing, f.err) }
func (f *failure) Unwrap() error { return f.err }

// Init boots the image and does not return. args are its arguments without the
// program's name, which the kernel took from its command line; they are passed
// to the image's init.
//
// When it cannot go on it says why on all consoles and restarts the machine
// after a minute.
func Init(ctx context.Context, args []string) {
	b := &booter{start: time.Now(), args: args}
	b.mark(stageInit)
	err := b.boot(ctx)
	b.giveUp(err)
}

type booter struct {
	start time.Time
	args  []string
	kmsg  *os.File
	log   *slog.Logger
	cmd   cmdline
	mods  *module.Loader
	h     *handoff.Handoff

	settings *bootsettings.Settings // that apply, merged

	d     *child          // nil until it runs
	steps []handoff.Stage // not told to the daemon yet
}

// Stages of the boot that init notes. Those of the daemon are in package root.
const (
	stageInit    = "target"   // the image's kernel has started this program
	stageNetwork = "network"  // the link is up
	stageRoot    = "root"     // the root is mounted
	stageHanded  = "handover" // the image's own init starts
)

// mark notes that a stage of the boot is reached now, by a clock that nobody
// sets in between.
func (b *booter) mark(stage string) {
	b.steps = append(b.steps, handoff.Stage{Name: stage, Unix: b.start.UnixMilli() + time.Since(b.start).Milliseconds()})
	if b.d == nil {
		return
	}
	for _, s := range b.steps {
		if err := b.d.order(daemon.StageOrder(s.Name, s.Unix)); err != nil {
			b.log.Debug("stage not noted", "error", err)
		}
	}
	b.steps = nil
}

// say writes one line for people to the kernel's log, and so to the consoles.
func (b *booter) say(format string, args ...any) { b.log.Info(fmt.Sprintf(format, args...)) }

func (b *booter) seconds() string { return fmt.Sprintf("%.1f s", time.Since(b.start).Seconds()) }

func (b *booter) boot(ctx context.Context) error {
	if err := mountBasics(); err != nil {
		return &failure{"mount the kernel's filesystems", err, "the kernel of this image lacks something basic; build the image anew"}
	}
	var err error
	if b.kmsg, err = os.OpenFile("/dev/kmsg", os.O_WRONLY|unix.O_CLOEXEC, 0); err != nil {
		return &failure{"open the kernel's log", err, "the kernel of this image lacks something basic; build the image anew"}
	}
	b.log = slog.New(kmsg.NewHandler(b.kmsg, "inetboot", slog.LevelInfo))

	// Once, so that the kernel gathers entropy instead of whoever comes later
	// failing or spinning (getrandom(2)).
	if _, err := unix.Getrandom(make([]byte, 1), 0); err != nil {
		b.log.Warn("no random numbers", "error", err)
	}
	raw, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return &failure{"read the kernel's command line", err, "the kernel of this image lacks something basic; build the image anew"}
	}
	if b.cmd, err = parseCmdline(string(raw)); err != nil {
		return &failure{"read the kernel's command line", err, "correct the command line in the menu or the manifest"}
	}
	doc, err := os.ReadFile(handoff.Path)
	if err == nil {
		b.h, err = handoff.Parse(doc)
	}
	if err != nil {
		return &failure{"read the handoff", err, "start this image from InetBoot's menu, with a boot medium that is not older than the image"}
	}
	b.say("%s %s (%s), started by InetBoot", b.h.Image.Name, b.h.Image.Version, b.h.Image.Arch)

	if b.mods, err = module.NewLoader("/"); err != nil {
		return &failure{"look for kernel modules", err, "push the image anew"}
	}
	if b.settings, err = readSettings(b.h, os.ReadFile); err != nil {
		return &failure{"read the settings", err, "start this image again, with a boot medium that is not newer than the image; or correct the settings (imagetool settings)"}
	}
	disk := make(chan string, 1)
	go func() { disk <- b.cacheFolder(ctx) }() // disks and links take their time side by side
	link, err := b.network(ctx)
	if err != nil {
		return err
	}
	b.mark(stageNetwork)
	if err := os.MkdirAll(filesDir, 0o755); err != nil {
		return &failure{"prepare /run", err, "the machine may have too little memory"}
	}
	if err := os.WriteFile(filepath.Join(stateDir, "handoff.json"), doc, 0o600); err != nil {
		return &failure{"prepare /run", err, "the machine may have too little memory"}
	}
	d, err := b.startDaemon(link, <-disk)
	if err != nil {
		return err
	}
	b.d = d
	if err := b.mountRoot(d); err != nil {
		// What the daemon saw explains an input/output error.
		if derr := d.refused(); derr != nil {
			return d.failure(derr)
		}
		return err
	}
	b.mark(stageRoot)
	b.say("root mounted in %s", b.seconds())
	if err := b.writeFiles(link, d.pid); err != nil {
		return err
	}
	b.applySettings(newRoot)
	initPath, err := findInit(newRoot, b.cmd.init)
	if err != nil {
		return &failure{"look for the image's init", err, "name it on the command line with init=, or push the image anew"}
	}
	b.holdInit(newRoot, initPath)
	if err := switchRoot(newRoot); err != nil {
		return &failure{"make the image's root the root", err, "try again; if it happens again, push the image anew"}
	}
	if err := b.runScript(ctx); err != nil {
		return err
	}
	if derr := d.refused(); derr != nil {
		return d.failure(derr)
	}
	b.mark(stageHanded)
	if err := d.order(daemon.Patient); err != nil {
		return &failure{"talk to the daemon", err, "try again"}
	}
	b.say("starting %s after %s", initPath, b.seconds())
	err = unix.Exec(initPath, append([]string{initPath}, b.args...), b.environment())
	return &failure{"start " + initPath, err, "push the image anew: its init does not run"}
}

// giveUp says what went wrong and restarts the machine after a while.
func (b *booter) giveUp(err error) {
	todo := "try again, or choose another entry of the menu"
	var f *failure
	if errors.As(err, &f) {
		todo = f.todo
	}
	b.shout(fmt.Sprintf("inetboot: cannot start this image: %v", err))
	b.shout("inetboot: what to do: " + todo)
	if b.d != nil {
		if derr := b.d.order(daemon.FailureOrder(err.Error())); derr != nil {
			b.log.Debug("the server is not told", "error", derr)
		}
	}
	for left := rebootWait; left > 0; left -= 10 * time.Second {
		b.shout(fmt.Sprintf("inetboot: restarting in %d s", int(left.Seconds())))
		time.Sleep(10 * time.Second)
	}
	unix.Sync()
	for {
		if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
			b.shout(fmt.Sprintf("inetboot: restart: %v; switch the machine off", err))
		}
		time.Sleep(time.Minute)
	}
}

// shout writes a line to the kernel's log, which shows it on all consoles, and
// to /dev/console in case the log is too quiet.
func (b *booter) shout(line string) {
	if b.log != nil {
		b.log.Error(line[len("inetboot: "):])
	}
	if b.log == nil || b.cmd.quiet {
		if c, err := os.OpenFile("/dev/console", os.O_WRONLY|unix.O_NOCTTY, 0); err == nil {
			fmt.Fprintf(c, "%s\r\n", line)
			c.Close()
		}
	}
}
