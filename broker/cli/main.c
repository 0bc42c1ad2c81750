/* oneslot: the broker, its supervisor, and the operator's commands. Only wires. */
#include "broker/cli/cmd.h"

int
main(int argc, char **argv)
{
    return cmd_main(argc, argv);
}
