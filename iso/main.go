// Command iso builds the boot media: the kernel, the initramfs with preboot,
// and the image that holds both and boots by BIOS and UEFI.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/iso/full"
	"github.com/inetboot/inetboot/iso/initramfs"
	"github.com/inetboot/inetboot/iso/kernel"
	"github.com/inetboot/inetboot/iso/media"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "iso:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	root := &cobra.Command{
		Use:           "iso",
		Short:         "Build the boot media",
		Example:       "  iso kernel -o build/vmlinuz\n  iso initramfs -o build/initramfs.xz\n  iso media -o build/inetboot.iso",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newKernelCommand(), newInitramfsCommand(), newMediaCommand(), newEFICommand(), newFullCommand())
	root.SetArgs(args)
	root.SetOut(out)
	return root.ExecuteContext(ctx)
}

func newKernelCommand() *cobra.Command {
	var o kernel.Options
	cmd := &cobra.Command{
		Use:     "kernel",
		Short:   "Build the kernel from Debian's source, or take it from the cache",
		Example: "  iso kernel -o build/vmlinuz\n  iso kernel --tarball linux-6.1.140.tar.xz -o build/vmlinuz",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Cache, err = cacheFolder(o.Cache); err != nil {
				return err
			}
			o.Log = cmd.OutOrStdout()
			return kernel.Build(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.Tarball, "tarball", "", "kernel source (default "+kernel.DefaultTarball+")")
	cmd.Flags().StringVar(&o.Cache, "cache", "", "folder for built kernels (default ~/.cache/inetboot)")
	cmd.Flags().StringVarP(&o.Out, "output", "o", "vmlinuz", "file to write")
	return cmd
}

// cacheFolder returns the folder that was given, or the usual one.
func cacheFolder(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	c, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder (or give --cache): %w", err)
	}
	return filepath.Join(c, "inetboot"), nil
}

func newInitramfsCommand() *cobra.Command {
	var preboot, out string
	cmd := &cobra.Command{
		Use:     "initramfs",
		Short:   "Pack preboot into an initramfs",
		Example: "  iso initramfs --preboot build/preboot -o build/initramfs.xz",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return initramfs.Build(cmd.Context(), preboot, out)
		},
	}
	cmd.Flags().StringVar(&preboot, "preboot", "build/preboot", "the program, built with CGO_ENABLED=0")
	cmd.Flags().StringVarP(&out, "output", "o", "initramfs.xz", "file to write")
	return cmd
}

func newMediaCommand() *cobra.Command {
	var o media.Options
	cmd := &cobra.Command{
		Use:     "media",
		Short:   "Write the ISO, which is at most 5 MiB",
		Example: "  iso media --kernel build/vmlinuz --initramfs build/initramfs.xz -o build/inetboot.iso",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			parts, err := media.Build(cmd.Context(), o)
			if err != nil {
				return err
			}
			printParts(cmd.OutOrStdout(), parts, o.Out, media.MaxSize)
			return nil
		},
	}
	cmd.Flags().StringVar(&o.Kernel, "kernel", "build/vmlinuz", "the kernel")
	cmd.Flags().StringVar(&o.Initramfs, "initramfs", "build/initramfs.xz", "the initramfs")
	cmd.Flags().StringVarP(&o.Out, "output", "o", "inetboot.iso", "file to write")
	return cmd
}

func newEFICommand() *cobra.Command {
	var o media.Options
	cmd := &cobra.Command{
		Use:     "efi",
		Short:   "Write the medium as one UEFI program",
		Example: "  iso efi --kernel build/vmlinuz --initramfs build/initramfs.xz -o build/inetboot.efi",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := media.BuildEFI(cmd.Context(), o)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "iso: %9d  %s\n", n, o.Out)
			return nil
		},
	}
	cmd.Flags().StringVar(&o.Kernel, "kernel", "build/vmlinuz", "the kernel")
	cmd.Flags().StringVar(&o.Initramfs, "initramfs", "build/initramfs.xz", "the initramfs")
	cmd.Flags().StringVarP(&o.Out, "output", "o", "inetboot.efi", "file to write")
	return cmd
}

func newFullCommand() *cobra.Command {
	var o full.Options
	cmd := &cobra.Command{
		Use:   "full",
		Short: "Write the large medium: Debian's kernel with its modules",
		Long: `Full writes a medium for hardware that the small one does not know: Debian's own
kernel, its modules for wired networks, disks and file systems, and the firmware
that they ask for, as far as the builder's machine has it.`,
		Example: "  iso full -o build/inetboot-full.iso\n  iso full --package linux-image-6.1.0-13-amd64_6.1.55-1_amd64.deb --firmware /usr/lib/firmware -o full.iso --efi full.efi",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Cache, err = cacheFolder(o.Cache); err != nil {
				return err
			}
			o.Log = cmd.OutOrStdout()
			parts, err := full.Build(cmd.Context(), o)
			if err != nil {
				return err
			}
			printParts(cmd.OutOrStdout(), parts, o.Out, full.MaxSize)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Package, "package", "", "Debian package of a kernel (default: the one that linux-image-amd64 needs, downloaded with apt-get)")
	f.StringVar(&o.Firmware, "firmware", "/lib/firmware", "folder of firmware")
	f.StringVar(&o.Cache, "cache", "", "folder for packages and packed modules (default ~/.cache/inetboot)")
	f.StringVar(&o.Preboot, "preboot", "build/preboot", "the program, built with CGO_ENABLED=0")
	f.StringVar(&o.Coldplug, "coldplug", "build/coldplug", "the program that loads modules, built with CGO_ENABLED=0")
	f.StringVarP(&o.Out, "output", "o", "inetboot-full.iso", "file to write")
	f.StringVar(&o.OutEFI, "efi", "", "file to write the same to as one UEFI program (default: none)")
	return cmd
}

func printParts(out io.Writer, parts []media.Part, name string, limit int64) {
	var total int64
	for _, p := range parts {
		fmt.Fprintf(out, "iso: %9d  %s\n", p.Size, p.Name)
		total += p.Size
	}
	fmt.Fprintf(out, "iso: %9d  %s, %d below the limit\n", total, name, limit-total)
}
