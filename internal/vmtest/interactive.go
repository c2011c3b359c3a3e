package vmtest

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/term"
)

// ErrQuit is returned by Interact when the person has typed Ctrl-A X.
var ErrQuit = errors.New("ended by Ctrl-A X")

// Interact connects a terminal with the console until the machine ends, ctx
// is done, or Ctrl-A X is typed, as in QEMU; Ctrl-A Ctrl-A sends a Ctrl-A.
func (v *VM) Interact(ctx context.Context, in, out *os.File) error {
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("prepare the terminal: %w", err)
	}
	defer term.Restore(int(in.Fd()), old)
	v.Attach(out)
	defer v.Attach(nil)
	quit := make(chan error, 1)
	go func() { // ends with the process: a read of a terminal cannot be called off
		buf := make([]byte, 256)
		command := false
		for {
			n, err := in.Read(buf)
			if err != nil {
				quit <- fmt.Errorf("read the terminal: %w", err)
				return
			}
			var send []byte
			for _, b := range buf[:n] {
				switch {
				case command && (b == 'x' || b == 'X'):
					quit <- ErrQuit
					return
				case command || b != 1:
					send = append(send, b)
					command = false
				default:
					command = true
				}
			}
			if err := v.Send(string(send)); err != nil {
				quit <- err
				return
			}
		}
	}()
	select {
	case err := <-quit:
		return err
	case <-v.exited:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
