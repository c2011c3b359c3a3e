package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/inetboot/inetboot/server/lan/bootmedia"
	"github.com/inetboot/inetboot/server/lan/configure"
	"github.com/inetboot/inetboot/server/setup"
)

// removeSteps take away what setting up has made, but for what people put work
// into: the data with its keys, and the DHCP server's configuration.
func removeSteps() []setup.Step {
	quiet := func(command string) func(context.Context) error {
		return func(ctx context.Context) error { return configure.Shell(command)(ctx) }
	}
	return []setup.Step{
		{
			Name: "the service",
			Plan: whereThereIs("stop the service and remove "+configure.UnitFile, configure.UnitFile),
			Do: func(ctx context.Context) error {
				if booted() {
					if err := quiet("systemctl stop inetboot.service && systemctl disable -q inetboot.service")(ctx); err != nil {
						return err
					}
				}
				if err := removeFiles(configure.UnitFile); err != nil || !booted() {
					return err
				}
				return quiet("systemctl daemon-reload")(ctx)
			},
		},
		{
			Name: "firewall rules",
			Plan: whereThereIs("unload these firewall rules and remove "+configure.NftablesFile, configure.NftablesFile),
			Do: func(ctx context.Context) error {
				// The table need not be there: the service loads it.
				if found("nft") {
					if err := quiet("! nft list table inet inetboot >/dev/null 2>&1 || nft delete table inet inetboot")(ctx); err != nil {
						return err
					}
				}
				return removeFiles(configure.NftablesFile)
			},
		},
		{
			Name: "program and boot files",
			Plan: whereThereIs("remove program and boot files from "+installFolder, joined(installFolder, installedNames())...),
			Do: func(context.Context) error {
				if err := removeFiles(joined(installFolder, installedNames())...); err != nil {
					return err
				}
				// Others may have put something there.
				if left, err := os.ReadDir(installFolder); err != nil || len(left) > 0 {
					return err
				}
				return os.Remove(installFolder)
			},
		},
	}
}

// installedNames are the files that setting up may put into the install folder.
func installedNames() []string {
	return append(append([]string{"server"}, bootmedia.Needed()...), bootmedia.Optional()...)
}

func whereThereIs(what string, files ...string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		for _, f := range files {
			if _, err := os.Lstat(f); err == nil {
				return what, nil
			} else if !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
		}
		return "", nil
	}
}

// removeFiles removes files, with those that were kept of them.
func removeFiles(files ...string) error {
	var errs []error
	for _, f := range files {
		for _, n := range []string{f, f + "~"} {
			if err := os.Remove(n); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// left says what a removal has left alone.
func (c *setupCommand) left() string {
	list := []string{"the user " + c.userName()}
	if data, err := dataFolder(c.o); err == nil {
		list = append(list, "the data in "+data)
	}
	for _, f := range configure.Formats() {
		file := configure.DefaultFile(f)
		if b, err := os.ReadFile(file); err == nil && configure.ReadTable(string(b)) != nil {
			text := file
			if _, err := os.Stat(file + "~"); err == nil {
				text += " (before, it was " + filepath.Base(file) + "~)"
			}
			list = append(list, text)
		}
	}
	return fmt.Sprint("left alone: ", strings.Join(list, ", "))
}
