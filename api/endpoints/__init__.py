"""The HTTP faces of tester endpoints: applications and processes of their own, beside the MES."""
