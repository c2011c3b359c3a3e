package command

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/imagetool/contents"
	"github.com/inetboot/inetboot/imagetool/initramfs"
	"github.com/inetboot/inetboot/imagetool/kernel"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/marks"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/imagetool/replicate"
	"github.com/inetboot/inetboot/imagetool/root"
	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/imagetool/trace"
	"github.com/inetboot/inetboot/imagetool/verify"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/keyfile"
)

// Exit codes.
const (
	ExitOK          = 0
	ExitOther       = 1
	ExitUsage       = 2
	ExitSource      = 3
	ExitExists      = 4
	ExitStore       = 5
	ExitFull        = 6
	ExitKey         = 7
	ExitTrust       = 8
	ExitExpiring    = 9
	ExitDamaged     = 10
	ExitInterrupted = 130
)

const exitHelp = `Exit codes: 0 done, 1 other errors, 2 wrong usage, 3 the source cannot be used
(unreadable, no kernel, no report of this image), 4 it exists already with other
content, 5 the store cannot be reached, refuses or lacks it, 6 no room (store or
temporary files), 7 token or signing key, 8 the store's catalog is not trusted,
9 done, but something will expire soon, 10 something in the store is missing or
damaged, 130 interrupted.`

// usageError is an error about the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// exitCode returns what err means to scripts. The first match counts.
func exitCode(err error) int {
	var usage *usageError
	if errors.As(err, &usage) {
		return ExitUsage
	}
	for _, c := range []struct {
		code int
		errs []error
	}{
		{ExitExpiring, []error{errExpiring}},
		{ExitDamaged, []error{verify.ErrDamaged, contents.ErrIndex, block.ErrFormat, digest.ErrMismatch}},
		{ExitFull, []error{store.ErrFull, source.ErrNoRoom, unix.ENOSPC, unix.EDQUOT}},
		{ExitExists, []error{push.ErrExists, push.ErrHasCatalog, keys.ErrExists}},
		{ExitKey, []error{store.ErrUnauthorized, errNoRoot, keys.ErrNoKey, keys.ErrNoPassphrase, keys.ErrAgent, keyfile.ErrOpen, keyfile.ErrFormat, keyfile.ErrEncrypted, keyfile.ErrPassphrase, publish.ErrTooFew, push.ErrSeal}},
		{ExitTrust, []error{catalog.ErrSignature, catalog.ErrUnknownKey, catalog.ErrRollback, catalog.ErrExpired, catalog.ErrFormat, catalog.ErrMismatch}},
		{ExitSource, []error{
			source.ErrUnreadable, source.ErrRefused, source.ErrChanged, kernel.ErrNoKernel, kernel.ErrArch, kernel.ErrKexec, root.ErrTooLarge,
			initramfs.ErrKernel, initramfs.ErrModule, initramfs.ErrIndex, initramfs.ErrProgram, trace.ErrReport,
		}},
		{ExitStore, []error{store.ErrUnreachable, store.ErrRejected, store.ErrNotExist, store.ErrConflict, push.ErrLost, push.ErrNoCatalog, marks.ErrBusy, marks.ErrLost, replicate.ErrNewer, errNoImage, errNoSettings, trace.ErrNoPack, pack.ErrInvalid}},
	} {
		for _, target := range c.errs {
			if errors.Is(err, target) {
				return c.code
			}
		}
	}
	return ExitOther
}
