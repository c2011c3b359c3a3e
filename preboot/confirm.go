package main

import (
	"context"

	"github.com/inetboot/inetboot/preboot/menu"
)

// Answers to the question of allTheSame, and how many seconds somebody has to
// give one.
const (
	startID      = "start"
	confirmPause = 60
)

// declinedError is why somebody who was asked did not start something, or why it
// was not started as nobody answered.
type declinedError struct{ why error }

func (e *declinedError) Error() string { return e.why.Error() }
func (e *declinedError) Unwrap() error { return e.why }

// allTheSame says what speaks against starting something, and asks whether to.
// It returns nil if somebody wants that, else an error with why, or that of ctx.
func (s *session) allTheSame(ctx context.Context, title, text string, why error) error {
	s.say("%s", text)
	ev := s.ask(ctx, menu.Options{
		Title: "InetBoot: " + title, Text: text,
		Items: []menu.Item{
			{ID: backID, Title: "Back to the menu"},
			{ID: startID, Title: "Start it all the same"},
		}, Default: backID, Timeout: confirmPause, Back: true,
	})
	switch {
	case ev.Picked != nil && ev.Picked.ID == startID:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return &declinedError{why}
}
