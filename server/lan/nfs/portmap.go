package nfs

import "context"

// The port mapper, RFC 1833 section 3, version 2: it tells where mount and NFS
// are, and registers nobody else.
const (
	progPortmap  = 100000
	versPortmap  = 2
	protoTCP     = 6
	procNull     = 0
	procGetPort  = 3
	procDumpPort = 4
)

func portmap(nfsPort, mapPort uint32) program {
	list := [][4]uint32{
		{progPortmap, versPortmap, protoTCP, mapPort},
		{progPortmap, versPortmap, 17, mapPort},
		{progMount, versMount, protoTCP, nfsPort},
		{progNFS, versNFS, protoTCP, nfsPort},
	}
	return func(_ context.Context, c *call, e *encoder) (uint32, *stream) {
		switch c.proc {
		case procNull:
		case procGetPort:
			prog, vers, proto := c.args.uint32(), c.args.uint32(), c.args.uint32()
			port := uint32(0)
			for _, m := range list {
				if m[0] == prog && m[1] == vers && m[2] == proto {
					port = m[3]
				}
			}
			e.uint32(port)
		case procDumpPort:
			for _, m := range list {
				e.bool(true)
				for _, v := range m {
					e.uint32(v)
				}
			}
			e.bool(false)
		default:
			return acceptProcUnavail, nil
		}
		return acceptSuccess, nil
	}
}
