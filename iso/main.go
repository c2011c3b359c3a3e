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
	root.AddCommand(newKernelCommand(), newInitramfsCommand(), newMediaCommand(), newEFICommand())
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
			if o.Cache == "" {
				c, err := os.UserCacheDir()
				if err != nil {
					return fmt.Errorf("find the cache folder (or give --cache): %w", err)
				}
				o.Cache = filepath.Join(c, "inetboot")
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
			var total int64
			for _, p := range parts {
				fmt.Fprintf(cmd.OutOrStdout(), "iso: %9d  %s\n", p.Size, p.Name)
				total += p.Size
			}
			fmt.Fprintf(cmd.OutOrStdout(), "iso: %9d  %s, %d below the limit\n", total, o.Out, media.MaxSize-total)
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
